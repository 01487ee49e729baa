"""image import, list, remove. Images are shared by all users, so only operators change them: a stranger's `debian`
must not become the root of somebody's job."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path

from jobs import protocol
from jobs.errors import UserError
from scheduler.api.parts import Parts, Peer

Name = Annotated[str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]


def router(parts: Parts) -> APIRouter:
    routes = APIRouter(tags=["images"])

    @routes.get("/v1/images", summary="Images that specs can name")
    async def list_images(peer: Peer) -> list[dict[str, Any]]:
        return [asdict(image) for image in await parts.images.list()]

    @routes.post("/v1/images", status_code=201, summary="Answers when the image is whole; that can take minutes")
    async def import_image(request: protocol.ImportImage, peer: Peer) -> dict[str, Any]:
        parts.access.must_operate(peer, "importing an image")
        try:
            source = await parts.open_source(peer, request.source)
        except OSError as error:
            raise UserError(f"cannot open {request.source!r} as you: {error.strerror}",
                            hint="give a folder or an archive that you can read") from error  # fmt: skip
        try:
            imported = await parts.images.import_(
                request.name, source, kind=request.kind, owner=peer, archive=request.source
            )
            return asdict(imported)
        finally:
            os.close(source)

    @routes.delete("/v1/images/{name}", status_code=204, summary="Refused while a running job uses it")
    async def remove_image(name: Name, peer: Peer) -> None:
        parts.access.must_operate(peer, "removing an image")
        await parts.images.remove(name)

    return routes

"""The image store: names and content-addressed layers below `state_dir/images`, all 0700.

    layers/<sha256>/   one tree each, shared by images      names/<NAME>.json   what an image is
    new-…/             an import at work; swept at the start

An image exists when its name file exists; that is written last. Layers that no name needs are removed.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import anyio
from anyio import to_thread

from jobs.errors import BadImage, HostError, ImageInUse, NoSuchImage, StepFailed
from jobs.events import Owner
from runtime.helper import HelperRunner, MapMaker
from runtime.images import imagefile
from runtime.images.imagefile import ImageInfo
from runtime.images.importing import Importer
from runtime.images.layers import Layers, remove_tree, sync_folder, write_whole
from runtime.images.limits import Limits
from runtime.plan import ImageRoot

ID_BASE = 2_145_288_192  # behind the jobs' blocks (Settings.id_first, id_blocks), below systemd's foreign range
BLOCKS = 8  # imports at a time
_log = logging.getLogger(__name__)


class ImageStore:
    """One per state folder. `start` before anything else. Methods without `async` touch a few small files at most."""

    def __init__(
        self,
        state_dir: str,
        helper: HelperRunner,
        idmap_userns: MapMaker,
        *,
        id_base: int = ID_BASE,
        limits: Limits | None = None,
    ) -> None:
        self._folder = os.path.join(state_dir, "images")
        self._names = os.path.join(self._folder, "names")
        self._layers = Layers(os.path.join(self._folder, "layers"))
        self._importer = Importer(helper, idmap_userns, id_base, BLOCKS, limits or Limits())
        self._held: Counter[str] = Counter()
        self._turn = anyio.Lock()  # committing an import, removing a name, collecting layers
        self._importing = 0

    async def start(self) -> Sequence[str]:
        """Makes the folders and removes what a killed daemon left; names it."""
        for folder in (self._folder, self._names, self._layers.folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            os.chmod(folder, 0o700)
        stray = [os.path.join(self._folder, name) for name in os.listdir(self._folder) if name.startswith("new-")]
        stray = [path for path in stray if await to_thread.run_sync(remove_tree, path)]
        torn = [os.path.join(self._names, name) for name in os.listdir(self._names) if not name.endswith(".json")]
        for path in torn:
            os.unlink(path)
        swept = await to_thread.run_sync(self._layers.sweep)
        unused = await self._collect()
        return sorted([*stray, *torn, *swept, *unused])

    # ── import ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def import_(self, name: str, source_fd: int, *, kind: str, owner: Owner, archive: str = "") -> ImageInfo:
        """`source_fd`: opened for reading with the rights of `owner`; `archive` is what messages call it.

        `kind`: "dir" and "tar" are root filesystems; "auto" finds docker-save archives and OCI layouts too.
        Raises BadImage, or a HostError; then nothing is imported and nothing is left.
        """
        imagefile.check_name(name)
        self._must_be_new(name)
        archive = archive or name
        is_dir, how = await to_thread.run_sync(_look_at, source_fd, kind, archive)
        working = tempfile.mkdtemp(prefix="new-", dir=self._folder)
        self._importing += 1
        try:
            tree = os.path.join(working, "tree")
            os.mkdir(tree, 0o755)
            report = await self._importer.unpack(
                source_fd,
                tree,
                kind=how,
                archive=archive,
                known=self._layers.present(),
                pack_as=owner if is_dir else None,
            )
            try:
                layers = imagefile.unpacked(report)
                info = imagefile.info_of(name, report, time.time())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise HostError(f"{archive}: the unpacker's report is damaged: {error!r}") from error
            await self._commit(info, layers, tree)
            return info
        finally:
            self._importing -= 1
            with anyio.CancelScope(shield=True):
                if not await to_thread.run_sync(remove_tree, working):
                    _log.warning("%s could not be removed; the next start tries again", working)
                await self._collect()

    async def _commit(self, info: ImageInfo, layers: tuple[imagefile.Unpacked, ...], tree: str) -> None:
        """Layers first, the name last: killed in between, there are unused layers, which the next start removes."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._must_be_new(info.name)
                try:
                    for number, layer in enumerate(layers):
                        if layer.made:
                            await to_thread.run_sync(self._layers.adopt, os.path.join(tree, str(number)), layer)
                    lost = self._layers.missing(info.layers)
                    if lost:
                        raise HostError(f"layer {lost[0]} vanished during the import", hint="import again")
                    path = self._name_path(info.name)
                    await to_thread.run_sync(write_whole, path, imagefile.to_bytes(info))
                except OSError as error:
                    raise StepFailed("image:commit", error.errno or 0, str(error.filename or tree)) from error

    def _must_be_new(self, name: str) -> None:
        if os.path.exists(self._name_path(name)):
            raise BadImage(f"an image named {name!r} exists", hint=f"jobs image remove {name}")

    # ── use ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def list(self) -> Sequence[ImageInfo]:
        """Sorted by name. One whose file is damaged is left out and logged; `info` says what is wrong with it."""
        found = []
        for name in self._known_names():
            try:
                found.append(self.info(name))
            except HostError as error:
                _log.warning("%s", error)
            except NoSuchImage:
                continue  # removed meanwhile
        return found

    def info(self, name: str) -> ImageInfo:
        """Raises NoSuchImage; HostError when its file is damaged."""
        imagefile.check_name(name)
        try:
            with open(self._name_path(name), "rb") as file:
                return imagefile.from_bytes(file.read())
        except FileNotFoundError:
            raise NoSuchImage(f"no image named {name!r}", hint="see: jobs image list") from None
        except ValueError as error:
            raise HostError(f"{self._name_path(name)}: {error}", hint=f"jobs image remove {name}") from error

    def resolve(self, name: str) -> ImageRoot:
        """The lower folders, top first. Raises NoSuchImage."""
        info = self.info(name)
        return ImageRoot(
            kind="layers",
            lower=tuple(self._layers.path(layer) for layer in info.layers),
            idmapped=True,
            env=info.env,
            workdir=info.workdir,
            entrypoint=info.entrypoint,
        )

    def hold(self, name: str) -> ImageRoot:
        """`resolve`, and the image cannot be removed until as many calls of `release`."""
        root = self.resolve(name)
        self._held[name] += 1
        return root

    def release(self, name: str) -> None:
        self._held[name] -= 1
        if self._held[name] <= 0:
            del self._held[name]

    @staticmethod
    def directory(fd: int, path: str) -> ImageRoot:
        """A folder of the submitter as the root, in place. `fd`: its index among the descriptors of the plan.

        Not idmapped (docs/design/image-dir.md): its files show as nobody's, and the job reads what a stranger may.
        """
        del path  # a path could be swapped after it was opened with the submitter's rights
        return ImageRoot(kind="layers", lower=(f"fd:{fd}",), idmapped=False)

    # ── removal ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def remove(self, name: str) -> None:
        """Raises NoSuchImage, or ImageInUse while a running job holds it."""
        imagefile.check_name(name)
        async with self._turn:
            if self._held[name]:
                raise ImageInUse(
                    f"{self._held[name]} running job(s) use the image {name!r}", hint="remove it when they have ended"
                )
            try:
                os.unlink(self._name_path(name))
            except FileNotFoundError:
                raise NoSuchImage(f"no image named {name!r}", hint="see: jobs image list") from None
            sync_folder(self._names)
        await self._collect()

    async def _collect(self) -> Sequence[str]:
        """Removes layers that no name needs. Not beside an import: it may count on a layer that it has only seen."""
        async with self._turn:
            if self._importing:
                return []
            needed = await to_thread.run_sync(self._needed)
            if needed is None:
                return []
            unused = [layer for layer in self._layers.present() if layer not in needed]
            for layer in unused:
                await to_thread.run_sync(self._layers.remove, layer)
            return [self._layers.path(layer) for layer in unused]

    def _needed(self) -> set[str] | None:
        """None when a name file cannot be read: then nothing may be collected."""
        needed: set[str] = set()
        for name in self._known_names():
            try:
                needed.update(self.info(name).layers)
            except HostError:
                return None
            except NoSuchImage:
                continue
        return needed

    def _known_names(self) -> Sequence[str]:
        suffix = ".json"
        return sorted(name[: -len(suffix)] for name in os.listdir(self._names) if name.endswith(suffix))

    def _name_path(self, name: str) -> str:
        return os.path.join(self._names, f"{name}.json")


def _look_at(source_fd: int, kind: str, archive: str) -> tuple[bool, str]:
    """(is a folder, how the unpacker shall read it). Only names are looked at, nothing is opened."""
    is_dir = stat.S_ISDIR(os.fstat(source_fd).st_mode)
    if kind not in ("auto", "dir", "tar"):
        raise BadImage(f"{kind!r} is no kind of image source", hint="auto, dir or tar")
    if (kind == "dir") != is_dir and kind != "auto":
        raise BadImage(f"{archive}: {'a folder' if is_dir else 'not a folder'}", hint="leave out --kind")
    if not is_dir:
        return False, kind
    with suppress(FileNotFoundError):
        marks = [os.lstat(name, dir_fd=source_fd) for name in ("oci-layout", "index.json")]
        if kind == "auto" and all(stat.S_ISREG(mark.st_mode) for mark in marks):
            return True, "archive"
    return True, "tar"

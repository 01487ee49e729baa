"""Puts the API together."""

from __future__ import annotations

from fastapi import FastAPI

from scheduler.api import replies
from scheduler.api.bodies import BoundedBodies
from scheduler.api.news import News
from scheduler.api.parts import Parts
from scheduler.api.routes import asking, following, images, looking, queues, steering, submission


def create_app(parts: Parts) -> FastAPI:
    """Needs the server of `scheduler.api.server`, which says who the peer is."""
    app = FastAPI(title="jobs", version="1", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    app.add_middleware(BoundedBodies)
    replies.add_handlers(app)
    for group in (submission, looking, asking, steering, images, queues):
        app.include_router(group.router(parts))
    news = News(parts.reader)
    app.include_router(following.router(parts, news))
    app.state.parts = parts
    app.state.background = news.run  # the server's to run
    return app

"""The server's native API, below /v1; each task has a module."""

from fastapi import APIRouter

from vimserve.server.routes.native import classify, jobs, models, segment
from vimserve.server.routes.native.renderings import RENDERINGS

__all__ = ["RENDERINGS", "router"]

router = APIRouter()
for _part in (classify, segment, jobs, models):
    router.include_router(_part.router)

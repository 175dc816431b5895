"""The server's native API, below /v1; each task has a module."""

from fastapi import APIRouter

from vimserve.server.routes.native import estimate, jobs, models
from vimserve.server.routes.native.renderings import RENDERINGS, TASK_MODULES

__all__ = ["RENDERINGS", "router"]

router = APIRouter()
for _part in (*TASK_MODULES, estimate, jobs, models):
    router.include_router(_part.router)

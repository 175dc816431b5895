"""The server's native API, below /v1; each task has a module."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter

from vimserve.server.routes.native import classify, estimate, models, segment
from vimserve.server.routes.native.rendering import Rendering

_TASKS = (classify, segment)
RENDERINGS: Mapping[str, Rendering[Any, Any]] = MappingProxyType(
    {task.RENDERING.task.name: task.RENDERING for task in _TASKS}
)

router = APIRouter()
for _part in (*_TASKS, estimate, models):
    router.include_router(_part.router)

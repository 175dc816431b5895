"""What the native API does: its tasks by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vimserve.server.routes.native import classify, detect, segment
from vimserve.server.routes.native.rendering import Rendering

TASK_MODULES = (classify, segment, detect)
RENDERINGS: Mapping[str, Rendering[Any, Any]] = MappingProxyType(
    {one.RENDERING.task.name: one.RENDERING for one in TASK_MODULES}
)

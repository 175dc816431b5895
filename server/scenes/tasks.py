"""What can be made of a scene: an entry for each task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vimserve.server.images.source import Size
from vimserve.server.scenes import classify, detect, mask_files
from vimserve.server.scenes.classify import ClassifyJoiner
from vimserve.server.scenes.described import Described
from vimserve.server.scenes.detect import DetectJoiner
from vimserve.server.scenes.grid import Grid
from vimserve.server.scenes.join import Joiner
from vimserve.server.scenes.partial import Partial
from vimserve.server.scenes.scene import Shown
from vimserve.server.scenes.segment import SegmentJoiner
from vimserve.server.tasks.detect import DEFAULT_DETECTIONS

WINDOW = 512


@dataclass(frozen=True)
class SceneTask:
    """How a task is done with a scene.

    Attributes:
        formats: of the result's file, by its suffixes.
        query: the fields of the task's query that are for scenes too.
        window: the side of a window in pixels, if nobody wants another one.
        overlap: of windows of this side, likewise.
        result_bytes: about what the result for a window of (height, width) pixels takes in memory.
        check: refuses a file of a format for a scene of (height, width) pixels, with a
            ``ValueError`` of one line; called before the first window is read.
        joiner: makes one result of those for the windows; takes the task's query and the scene's
            name, too.
    """

    formats: Mapping[str, str]
    query: frozenset[str]
    window: Callable[[Described], int]
    overlap: Callable[[int], int]
    result_bytes: Callable[[Described, Size], int]
    check: Callable[[str, Size], None]
    joiner: Callable[[Described, Shown, Grid, Partial, Any, str], Joiner[Any]]


def quarter(side: int) -> int:
    """The overlap of windows whose results are joined in it."""
    return side // 4


def _scores_bytes(model: Described, size: Size) -> int:
    return 4 * len(model.labels) * (size[0] // model.cell) * (size[1] // model.cell)


def _objects_bytes(_: Described, size: Size) -> int:
    """Each column of a mask has a run or two; so many masks as are found by default."""
    return 8 * DEFAULT_DETECTIONS * size[1]


SCENE_TASKS: Mapping[str, SceneTask] = MappingProxyType(
    {
        "segment": SceneTask(
            formats=mask_files.FORMATS,
            query=frozenset({"bands", "range"}),
            window=lambda _: WINDOW,
            overlap=quarter,
            result_bytes=_scores_bytes,
            check=mask_files.check,
            joiner=lambda model, shown, grid, partial, _query, _name: SegmentJoiner(
                model, shown, grid, partial
            ),
        ),
        "detect": SceneTask(
            formats=detect.FORMATS,
            query=frozenset({"bands", "range", "score_threshold", "max_detections", "masks"}),
            window=lambda _: WINDOW,
            overlap=quarter,
            result_bytes=_objects_bytes,
            check=detect.check,
            joiner=lambda model, shown, grid, partial, _, name: DetectJoiner(
                model, shown, grid, partial, name
            ),
        ),
        "classify": SceneTask(
            formats=classify.FORMATS,
            query=frozenset({"bands", "range", "top_k"}),
            window=lambda model: model.resolution or WINDOW,
            overlap=lambda _: 0,
            result_bytes=lambda model, _: 4 * len(model.labels),
            check=classify.check,
            joiner=lambda model, shown, grid, partial, query, _: ClassifyJoiner(
                model, shown, grid, partial, query.top_k
            ),
        ),
    }
)

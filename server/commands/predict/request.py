"""What a command line of ``vimserve predict`` asks for."""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vimserve.server.commands.query_flags import (
    add_query_flags,
    add_task_flag,
    check_query_flags,
)
from vimserve.server.scenes.tasks import SCENE_TASKS, SceneTask
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.task import Task

GEOTIFF = (".tif", ".tiff")
# What a picture's file is by its name, if the task has that format.
SUFFIXES = MappingProxyType(
    {
        ".png": "png",
        ".jpg": "overlay",
        ".jpeg": "overlay",
        ".json": "coco",
        ".geojson": "geojson",
    }
)


@dataclass(frozen=True)
class SceneFlags:
    """The flags that make a file a scene, if they are given.

    Attributes:
        overlap: of neighbouring windows in pixels.
        nodata: the sample value of pixels that show nothing.
        servers: addresses of those that answer.
    """

    overlap: int | None = None
    nodata: float | None = None
    servers: Sequence[str] = ()

    @property
    def given(self) -> bool:
        """Whether any is."""
        return self != SceneFlags()


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        files: paths; ``-`` is the standard input.
        task: one of ``TASKS``.
        query: the given flags, by the names of the task's query fields.
        output: file for the result, if there is only one.
        form: its format, if it is given.
        scene: the flags that are for scenes alone.
    """

    files: Sequence[str]
    task: Task[Any, Any]
    query: Mapping[str, Any]
    output: Path | None = None
    form: str | None = None
    scene: SceneFlags = field(default_factory=SceneFlags)

    @property
    def picture_form(self) -> str | None:
        """The format of a picture's file, one of the task's, if there is such a file."""
        if self.output is None or not self.task.formats:
            return None
        named = SUFFIXES.get(self.output.suffix.lower(), "")
        return self.form or (named if named in self.task.formats else self.task.formats[0])

    @property
    def of_a_scene(self) -> bool:
        """Whether the file is a scene because the command line says so."""
        suffix = self.output.suffix.lower() if self.output else ""
        return self.form == "geotiff" or self.scene.given or (not self.form and suffix in GEOTIFF)


@dataclass(frozen=True)
class SceneRequest:
    """What is made of a scene.

    Attributes:
        file: the scene.
        task: the name of the task.
        query: the given flags, by the names of the task's query fields.
        window: side of the windows in pixels, if it is given.
        flags: the flags that are for scenes alone.
        output: file for the result.
        form: its format.
    """

    file: Path
    task: str
    query: Mapping[str, Any]
    window: int | None
    flags: SceneFlags
    output: Path
    form: str

    @property
    def how(self) -> SceneTask:
        """How the task is done with scenes."""
        return SCENE_TASKS[self.task]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--task``, ``--output``, a flag for each field of the tasks' queries, and a scene's."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file, or - for stdin")
    add_task_flag(parser)
    formats = [form for task in TASKS.values() for form in task.formats]
    formats += [form for how in SCENE_TASKS.values() for form in how.formats.values()]
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="file for the result; with .tif the image is a scene of any size, see docs/scenes.md",
    )
    parser.add_argument(
        "--format",
        choices=tuple(dict.fromkeys(formats)),
        dest="form",
        help="format of that file; by default what its name ends in, else "
        + ", ".join(f"{task.formats[0]} ({task.name})" for task in TASKS.values() if task.formats),
    )
    add_query_flags(parser)
    scene = parser.add_argument_group("scenes of any size, of which each of these flags makes one")
    scene.add_argument(
        "--overlap",
        type=int,
        metavar="N",
        help="pixels by which neighbouring windows overlap at least; by default a quarter of a "
        "window, and none to classify",
    )
    scene.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="sample value of pixels that show nothing; by default what the file says",
    )
    scene.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="URL",
        dest="servers",
        help="vimserve that answers instead of this process; repeat for several",
    )


def request_of(images: Sequence[str], task: str, **flags: Any) -> Request:
    """The request that parsed flags describe.

    Raises:
        ValueError: for a flag, or a format, that belongs to another task.
    """
    scene = SceneFlags(flags.pop("overlap"), flags.pop("nodata"), tuple(flags.pop("servers")))
    output, form = flags.pop("output"), flags.pop("form")
    request = Request(images, TASKS[task], flags, output, form, scene)
    if request.of_a_scene:
        return request
    formats = TASKS[task].formats
    if form and form not in formats:
        raise ValueError(
            f"--format must be one of {', '.join(formats)} for --task {task}, not {form}"
            if formats
            else f"--format is for a task that writes files, not for --task {task}"
        )
    check_query_flags(task, flags)
    return request


def scene_request(request: Request) -> SceneRequest:
    """What a request asks for whose only file is a scene.

    Raises:
        ValueError: if that is not possible, one line.
    """
    task = request.task.name
    if len(request.files) != 1 or request.files[0] == "-":
        raise ValueError(f"a scene is one file on the disk, not {', '.join(request.files)}")
    if request.output is None:
        raise ValueError(
            f"{request.files[0]} is run as a scene, whose result is a file: give --output"
        )
    if request.scene.nodata is not None and not math.isfinite(request.scene.nodata):
        raise ValueError("--nodata must be a number; samples that are none show nothing anyway")
    query = dict(request.query)
    window = query.pop("window", None)
    if query.pop("mode", "slide") != "slide":
        raise ValueError("--mode whole is not for a scene, which is seen in windows")
    for name in query:
        if name not in SCENE_TASKS[task].query:
            raise ValueError(f"--{name.replace('_', '-')} is not for --task {task} of a scene")
    return SceneRequest(
        Path(request.files[0]), task, query, _whole_number(window), request.scene,
        request.output, _form(SCENE_TASKS[task], request.output, request.form),
    )  # fmt: skip


def _form(how: SceneTask, output: Path, given: str | None) -> str:
    forms = tuple(dict.fromkeys(how.formats.values()))
    form = given or how.formats.get(output.suffix.lower())
    if form not in forms:
        raise ValueError(
            f"--output must end in {', '.join(how.formats)}, or --format be one of "
            f"{', '.join(forms)}, not {given or output.name}"
        )
    return form


def _whole_number(text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit()):
        raise ValueError(f"--window must be a whole number of pixels, not {text!r}")
    return None if text is None else int(text)

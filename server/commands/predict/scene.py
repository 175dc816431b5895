"""Runs one model over a scene of any size."""

import asyncio
import sys
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from vimserve import __version__
from vimserve.model.slide import Window
from vimserve.model.threads import use_threads
from vimserve.model.transform import Transform
from vimserve.server.commands.predict.answerers import Answerer, here, on_servers
from vimserve.server.commands.predict.request import SceneRequest
from vimserve.server.config import PredictConfig
from vimserve.server.errors import ServerError
from vimserve.server.scenes.described import Described
from vimserve.server.scenes.grid import Grid, grid_of
from vimserve.server.scenes.join import RGB, Joiner, join
from vimserve.server.scenes.open import open_scene
from vimserve.server.scenes.partial import Partial
from vimserve.server.scenes.view import View
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.query import with_samples

INTERRUPTED = 130  # as a shell has it
# What windows may take together from when they are read until they are joined, pictures, patches
# and results.
IN_FLIGHT_BYTES = 2**28


def predict_scene(config: PredictConfig, request: SceneRequest) -> int:
    """Run a model over a scene, and write one result.

    Returns:
        0, or 130 if it was interrupted; the same command then goes on.

    Raises:
        ValueError: for a model, a scene or a parameter that cannot be used, one line.
        OSError: if the scene cannot be read, or the result not be written.
    """
    use_threads(config.threads)
    _check_output(request)
    try:
        with closing(open_scene(request.file)) as scene:
            model = _answerer(config, request)
            side, overlap = _windows(request, model.described)
            query = TASKS[request.task].ask(request.query)
            seen = with_samples(model.samples, query)
            view = View(scene, seen.bands, seen.range, request.flags.nodata)
            request.how.check(request.form, view.size)
            grid = grid_of(view.size, side, overlap, model.described.multiple, model.described.cell)
            settings = _settings(request, model.described, seen, side, overlap)
            partial_result = Partial(request.output, settings)
            joiner = request.how.joiner(
                model.described, view, grid, partial_result, query, request.file.name
            )
            _tell(request, view, grid, side, overlap, partial_result)
            _run(request, model, view, grid, partial_result, joiner)
    except ServerError as error:
        raise ValueError(error.detail) from error
    except KeyboardInterrupt:
        print("vimserve: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(request.output)
    return 0


def _check_output(request: SceneRequest) -> None:
    """Refuse an output whose place cannot be taken, or must not be.

    Raises:
        ValueError: one line.
    """
    output = request.output
    if output.exists() and not output.is_file():
        raise ValueError(f"--output must be a file, which {output} is not")
    if output.exists() and request.file.exists() and output.samefile(request.file):
        raise ValueError(f"--output is the scene itself, {output}; choose another")


def _answerer(config: PredictConfig, request: SceneRequest) -> Answerer:
    if request.flags.servers:
        return asyncio.run(on_servers(config, request))
    return here(config, request)


def _windows(request: SceneRequest, model: Described) -> tuple[int, int]:
    """Side and overlap of the windows.

    Raises:
        ValueError: if they do not fit the model.
    """
    least = model.multiple
    most = max(model.max_resolution // least * least, least)
    side = request.window
    if side is None:
        side = max(min(request.how.window(model), most) // least * least, least)
    if not least <= side <= most or side % least:
        raise ValueError(
            f"--window must be a multiple of {least} from {least} to {most} pixels, not {side}"
        )
    overlap = request.flags.overlap
    if overlap is None:
        overlap = min(request.how.overlap(side), side - least)
    if not 0 <= overlap <= side - least:
        raise ValueError(
            f"--overlap must be from 0 to {side - least}, because windows of {side} pixels begin "
            f"at multiples of {least}, not {overlap}"
        )
    return side, overlap


def _settings(
    request: SceneRequest, model: Described, seen: Transform, side: int, overlap: int
) -> dict[str, Any]:
    """Whatever the result depends on."""
    stat = request.file.stat()
    return {
        "scene": str(request.file.resolve()),
        "bytes": stat.st_size,
        "modified": stat.st_mtime_ns,
        "task": request.task,
        "model": model.name,
        "weights": model.identity,
        "window": side,
        "overlap": overlap,
        "bands": seen.bands,
        "range": str(seen.range),
        "nodata": request.flags.nodata,
        "query": {
            name: str(value)
            for name, value in sorted(request.query.items())
            if name not in ("bands", "range")
        },
        "version": __version__,
    }


def _tell(
    request: SceneRequest, view: View, grid: Grid, side: int, overlap: int, there: Partial
) -> None:
    height, width = view.size
    windows = f"{len(grid)} windows of {side} pixels" if len(grid) > 1 else "one window"
    line = f"{request.file} is a scene of {height}x{width} pixels: {windows}"
    if len(grid) > 1:
        line += f" that overlap by {overlap}"
    if there.rows:
        line += f", {there.rows * len(grid.lefts)} of which are in {there.folder} already"
    print(f"vimserve: {line}", file=sys.stderr)
    if view.georeference is None:
        print("vimserve: it has no georeference, nor will the result", file=sys.stderr)


def _run(
    request: SceneRequest,
    model: Answerer,
    view: View,
    grid: Grid,
    there: Partial,
    joiner: Joiner[Any],
) -> None:
    try:
        if there.rows < len(grid.tops):
            asyncio.run(_join(request, model, view, grid, there, joiner))
        joiner.finish(request.output, request.form)
        there.remove()
    except (OSError, ServerError) as error:
        reason = error.detail if isinstance(error, ServerError) else error.strerror or error
        raise OSError(
            f"{reason}; what was done is in {there.folder}, and the same command goes on from there"
        ) from error


async def _join(
    request: SceneRequest,
    model: Answerer,
    view: View,
    grid: Grid,
    there: Partial,
    joiner: Joiner[Any],
) -> None:
    height, width = grid.extent
    # The picture, its patches, and the result.
    of_window = 6 * height * width + request.how.result_bytes(model.described, grid.extent)
    async with model.answering(grid.extent) as (ask, busy):
        done = there.rows * len(grid.lefts)
        with tqdm(total=len(grid), initial=done, unit="window", disable=None) as bar:
            at_once = max(min(busy, IN_FLIGHT_BYTES // of_window), 1)
            await join(grid, there.rows, partial(_picture, view), ask, joiner, at_once, bar.update)


def _picture(view: View, window: Window) -> RGB | None:
    """A window's picture; what it has beyond the scene repeats the scene's last pixels."""
    height, width = view.size
    inside = Window(
        window.top,
        window.left,
        min(window.height, height - window.top),
        min(window.width, width - window.left),
    )
    picture = view.rgb(inside)
    if picture is None or inside == window:
        return picture
    beyond = (window.height - inside.height, window.width - inside.width)
    return np.pad(picture, ((0, beyond[0]), (0, beyond[1]), (0, 0)), mode="edge")

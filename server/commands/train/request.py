"""What the command line asks for."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vimserve.model.cache_folders import cache_folder
from vimserve.server.commands.train.pixel_flags import Pixels, add_pixel_flags, pixels_of
from vimserve.server.config.settings import split_list

TASKS = ("classify", "segment")
# Which flags say where the data are, by task.
NEEDED = {"classify": ("data",), "segment": ("images", "masks")}
CACHE_GB = 10.0


@dataclass(frozen=True)
class Request:
    """What is to be trained.

    Attributes:
        task: of the model.
        paths: where the data are, by flag.
        backbone: name of the catalog, or ``NAME=FILE``.
        output: the file that is written.
        report: folder for the report.
        resolutions: sizes in pixels to train at; None is the backbone's own.
        seed: of whatever is random.
        held_out: share of the pictures that are not trained on.
        head_only: leave the backbone out of the file.
        evaluate: measure the file on what was held out.
        skip_unreadable: go on without files that cannot be read.
        cache: folder for features.
        cache_bytes: that they may take.
        pixels: how a head for pixels is trained.
    """

    task: str
    paths: dict[str, Path]
    backbone: str
    output: Path
    report: Path
    resolutions: tuple[int | None, ...]
    seed: int
    held_out: float
    head_only: bool
    evaluate: bool
    skip_unreadable: bool
    cache: Path
    cache_bytes: int
    pixels: Pixels = field(default_factory=Pixels)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what to train, on which pictures."""
    parser.add_argument("--task", choices=TASKS, default=TASKS[0], help=f"(default: {TASKS[0]})")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="classify: folder with a folder of pictures for each class, called by its name",
    )
    parser.add_argument(
        "--backbone",
        required=True,
        metavar="NAME[=FILE]",
        help="the model whose features are used and stay as they are, of `vimserve models`",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the model that is made, a safetensors file for --model NAME=FILE",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="folder for the report (default: the output's name with -report)",
    )
    parser.add_argument(
        "--resolutions",
        default="",
        metavar="N,…",
        help="sizes of the model's input in pixels, of which the best is taken; by default the "
        "backbone's own",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of each class's pictures, to choose by and to be tested by (default: 0.2)",
    )
    parser.add_argument(
        "--head-only",
        action="store_true",
        help="leave the backbone out of the file; a server takes it from the catalog and checks "
        "that it is the same",
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="measure the file on the pictures that were held out, as `vimserve evaluate` does",
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="go on without files that cannot be read; the report names them",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=cache_folder("features"),
        metavar="FOLDER",
        help="where features are kept for the next run (default: %(default)s)",
    )
    parser.add_argument(
        "--cache-gb",
        type=float,
        default=CACHE_GB,
        metavar="GB",
        help="that they may take; those that were used first are deleted (default: %(default)g)",
    )
    add_pixel_flags(parser)


def request_of(**flags: Any) -> Request:
    """The request that parsed flags describe.

    Raises:
        ValueError: for flags that do not belong to the task, are missing or out of range.
    """
    task, output = flags["task"], flags["output"]
    every = {name for names in NEEDED.values() for name in names}
    paths = {name: path for name in every if (path := flags.pop(name, None)) is not None}
    pixels = pixels_of(task, flags)
    if absent := [f"--{name}" for name in NEEDED[task] if name not in paths]:
        raise ValueError(f"--task {task} needs {' and '.join(absent)}")
    if foreign := [f"--{name}" for name in paths if name not in NEEDED[task]]:
        raise ValueError(f"{foreign[0]} is not for --task {task}")
    if not 0 < flags["held_out"] < 1:
        raise ValueError(f"--held-out must be above 0 and below 1, not {flags['held_out']:g}")
    if not flags["cache_gb"] > 0:
        raise ValueError(f"--cache-gb must be above 0, not {flags['cache_gb']:g}")
    if output.suffix != ".safetensors" or output.is_dir():
        raise ValueError(f"--output {output} must be a file whose name ends in .safetensors")
    report = flags.pop("report") or output.with_name(f"{output.stem}-report")
    flags["resolutions"] = _resolutions(flags["resolutions"])
    flags["cache_bytes"] = int(1e9 * flags.pop("cache_gb"))
    return Request(paths=paths, report=report, pixels=pixels, **flags)


def _resolutions(text: str) -> tuple[int | None, ...]:
    sizes: list[int | None] = []
    for part in split_list(text):
        if not (part.isascii() and part.isdigit() and int(part)):
            raise ValueError(f"--resolutions {text}: {part!r} is no size in pixels")
        sizes.append(int(part))
    return tuple(dict.fromkeys(sizes)) or (None,)

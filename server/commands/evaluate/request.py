"""What the command line asks for."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vimserve.model.spec import ModelSpec
from vimserve.server.commands.evaluate.benchmark import Benchmark
from vimserve.server.commands.evaluate.labelled import Labelled
from vimserve.server.commands.evaluate.masks import Masks
from vimserve.server.commands.evaluate.objects import Objects
from vimserve.server.commands.evaluate.protocols import PROTOCOLS, Protocol
from vimserve.server.commands.query_flags import (
    add_query_flags,
    add_task_flag,
    check_query_flags,
)
from vimserve.server.config.settings import split_list, split_models

# What the command decides itself, or has a flag of its own for.
NOT_ASKED = ("resolution", "top_k", "masks")
# Which flags say where the data are, by task, those that have to be given first.
NEEDED = {"classify": ("data",), "segment": ("images", "masks"), "detect": ("coco", "images")}
ALLOWED = {
    "classify": ("data", "images"),
    "segment": ("images", "masks"),
    "detect": NEEDED["detect"],
}


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Attributes:
        task: of the models.
        query: the given flags, by the names of the task's query fields.
        resolutions: sizes to ask for; None is the model's own.
        paths: where the data are, by flag.
        output: folder for the results.
        protocol: name of a published protocol, if one was given.
        reduce_zero_label: whether 0 is no class in masks.
        skip_missing: whether to go on without pictures that are not there.
    """

    task: str
    query: Mapping[str, Any]
    resolutions: tuple[str | None, ...]
    paths: Mapping[str, Path]
    output: Path
    protocol: str | None = None
    reduce_zero_label: bool = False
    skip_missing: bool = False

    @property
    def published(self) -> Protocol | None:
        """The protocol of that name."""
        return PROTOCOLS[self.protocol] if self.protocol else None

    def benchmark(self, spec: ModelSpec) -> Benchmark:
        """The pictures for a model.

        Raises:
            ValueError: for data that cannot be used.
            OSError: for data that cannot be read.
        """
        paths, skip = self.paths, self.skip_missing
        if self.task == "classify":
            return Labelled(spec, paths["data"], paths.get("images"), skip_missing=skip)
        if self.task == "segment":
            return Masks(
                spec,
                paths["images"],
                paths["masks"],
                reduce_zero_label=self.reduce_zero_label,
                skip_missing=skip,
            )
        return Objects(spec, paths["coco"], paths["images"], skip_missing=skip)

    def longest(self, max_resolution: int) -> int:
        """The longest side that may be asked for: what was set, or more if that is what was asked
        for by name.
        """
        asked = [int(one) for one in self.resolutions if one and one.isdecimal()]
        return max([max_resolution, (self.published and self.published.longest) or 0, *asked])


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what to measure, on which pictures."""
    add_task_flag(parser)
    parser.add_argument(
        "--models",
        dest="model",
        action="extend",
        type=split_models,
        default=argparse.SUPPRESS,
        metavar="NAME[=FILE],…",
        help="the models, with commas; as --model, repeated",
    )
    parser.add_argument(
        "--resolutions",
        default=argparse.SUPPRESS,
        metavar="N,…",
        help="sizes of the models' inputs in pixels, or native; by default the models' own",
    )
    for name, about in {
        "data": "classify: folder with a folder of pictures for each class, called by its name or "
        "WordNet id; or a text file with a picture and its class in each line",
        "images": "folder of the pictures (segment, detect, and classify with a list)",
        "masks": "segment: folder of masks with class numbers, called as their pictures; 255 is no "
        "class",
        "coco": "detect: file of COCO's form with the objects",
    }.items():
        kind = "FILE" if name == "coco" else "FOLDER"
        parser.add_argument(f"--{name}", type=Path, metavar=kind, help=about)
    parser.add_argument(
        "--reduce-zero-label",
        action="store_true",
        help="segment: 0 is no class in the masks, and classes count from 1, as in ADE20K",
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="go on without pictures or masks that are not there; the report names them",
    )
    published = "; ".join(f"{name}: {one.about}" for name, one in PROTOCOLS.items())
    parser.add_argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        help=f"measure as published, and show the published figures: {published}",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("evaluation"),
        metavar="FOLDER",
        help="folder for the results, from which an interrupted run goes on (default: evaluation)",
    )
    add_query_flags(parser, but=NOT_ASKED)


def request_of(task: str, **flags: Any) -> Request:
    """The request that parsed flags describe.

    Raises:
        ValueError: for flags that do not belong to the task, or are missing.
    """
    output, protocol = flags.pop("output"), flags.pop("protocol")
    reduce_zero_label, skip_missing = flags.pop("reduce_zero_label"), flags.pop("skip_missing")
    resolutions = flags.pop("resolutions", None)
    given = {name: flags.pop(name) for name in ("data", "images", "masks", "coco")}
    paths = {name: path for name, path in given.items() if path is not None}
    for name in paths:
        if name not in ALLOWED[task]:
            others = " or ".join(other for other, names in ALLOWED.items() if name in names)
            raise ValueError(f"--{name} is for --task {others}")
    if absent := [f"--{name}" for name in NEEDED[task] if name not in paths]:
        raise ValueError(f"--task {task} needs {' and '.join(absent)}")
    check_query_flags(task, flags)
    published = PROTOCOLS[protocol] if protocol else None
    if published and published.task != task:
        raise ValueError(f"--protocol {protocol} is for --task {published.task}")
    if reduce_zero_label and task != "segment":
        raise ValueError("--reduce-zero-label is for --task segment")
    sizes: tuple[str | None, ...] = (None,)
    if resolutions is not None and not (sizes := tuple(dict.fromkeys(split_list(resolutions)))):
        raise ValueError("--resolutions is empty: leave it out for the models' own")
    return Request(
        task=task,
        query={**(published.query if published else {}), **flags},
        resolutions=sizes,
        paths=paths,
        output=output,
        protocol=protocol,
        reduce_zero_label=reduce_zero_label or bool(published and published.reduce_zero_label),
        skip_missing=skip_missing,
    )

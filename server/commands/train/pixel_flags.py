"""What the command line asks for of heads for pixels."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from vimserve.model.heads.pixels.backbone import Kind
from vimserve.server.config.settings import split_list

WEIGHTS = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}
SCALES = (0.25, 4.0)  # between which a scale may be


@dataclass(frozen=True)
class Pixels:
    """How a head for pixels is trained.

    Attributes:
        head: its kind.
        channels: width of a UPerNet.
        labels: file with the names of the classes, if there is one.
        palette: file with their colours, if there is one.
        reduce_zero_label: whether 0 is no class in masks.
        skip_missing: whether to go on without pictures that have no mask.
        power: of the classes' shares of pixels, by which their weights fall.
        flips: whether pictures are trained on flipped as well.
        scales: at which they are trained on as well, relative to the resolution.
    """

    head: Kind = "linear"
    channels: int = 48
    labels: Path | None = None
    palette: Path | None = None
    reduce_zero_label: bool = False
    skip_missing: bool = False
    power: float = WEIGHTS["none"]
    flips: bool = True
    scales: tuple[float, ...] = ()


def add_pixel_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``--task segment``."""
    group = parser.add_argument_group("segment")

    def add(name: str, about: str, **options: Any) -> None:
        group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=about, **options)

    add("images", "folder of the pictures", type=Path, metavar="FOLDER")
    add(
        "masks",
        "folder of masks with class numbers, called as their pictures; 255 is no class",
        type=Path,
        metavar="FOLDER",
    )
    add(
        "labels",
        "names of the classes, a text or JSON file; by default the masks tell how many there are",
        type=Path,
        metavar="FILE",
    )
    add("palette", "colours of the classes, a JSON file", type=Path, metavar="FILE")
    add(
        "reduce-zero-label",
        "0 is no class in the masks, and classes count from 1, as in ADE20K",
        action="store_true",
    )
    add("skip-missing", "go on without pictures that have no mask", action="store_true")
    add(
        "head",
        "linear: on the features of four blocks; upernet: the published head, narrower, better and "
        f"much slower to train (default: {Pixels.head})",
        choices=get_args(Kind),
    )
    add("channels", f"width of a upernet (default: {Pixels.channels})", type=int, metavar="N")
    add(
        "class-weights",
        "whether rare classes count more: by the inverse of their share of pixels (balanced), its "
        "root, or not (default: none)",
        choices=tuple(WEIGHTS),
    )
    add("no-flips", "do not train on flipped pictures as well", action="store_true")
    add(
        "scales",
        "train on the pictures at these sizes as well, relative to the resolution, such as "
        "0.75,1.5; each takes as much of the cache again",
        metavar="N,…",
    )


def pixels_of(task: str, flags: dict[str, Any]) -> Pixels:
    """What parsed flags describe, which are taken out of them.

    Raises:
        ValueError: for flags of another task, or values out of range.
    """
    own = (
        "labels", "palette", "reduce_zero_label", "skip_missing", "head", "channels",
        "class_weights", "no_flips", "scales",
    )  # fmt: skip
    given = {name: flags.pop(name) for name in own if name in flags}
    if given and task != "segment":
        raise ValueError(f"--{next(iter(given)).replace('_', '-')} is for --task segment")
    if "channels" in given:
        if given.get("head", Pixels.head) != "upernet":
            raise ValueError("--channels is for --head upernet")
        if given["channels"] < 1:
            raise ValueError(f"--channels must be at least 1, not {given['channels']}")
    if flags["head_only"] and given.get("head") == "upernet":
        raise ValueError(
            "--head-only is for --head linear: under a UPerNet a Vim has no class token, so it is "
            "not the backbone that others have"
        )
    given["power"] = WEIGHTS[given.pop("class_weights", "none")]
    given["flips"] = not given.pop("no_flips", False)
    given["scales"] = _scales(given.pop("scales", ""))
    return Pixels(**given)


def _scales(text: str) -> tuple[float, ...]:
    least, most = SCALES
    scales = []
    for part in split_list(text):
        try:
            scale = float(part)
        except ValueError:
            raise ValueError(f"--scales {text}: {part!r} is no number") from None
        if not least <= scale <= most:
            raise ValueError(f"--scales must be from {least:g} to {most:g}, not {part}")
        scales.append(scale)
    return tuple(scale for scale in dict.fromkeys(scales) if scale != 1)

"""Traces: recorded arrivals of images of mixed sizes."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# What was drawn once, and is in the package.
TRACE = Path(__file__).with_name("mixed_96_1248.json")

SMALLEST, LARGEST = 96, 1248
MULTIPLE = 16

# (height, width) of common thumbnails, photographs and crops.
COMMON = (
    (96, 96), (224, 224), (256, 256), (480, 640), (512, 512), (768, 1024), (1024, 1024),
    (1248, 1248),
)  # fmt: skip
SHARE_OF_COMMON = 0.5
STEEPEST_ASPECT = 2.5


@dataclass(frozen=True)
class Arrival:
    """One image.

    Attributes:
        at: when it arrives after the first one, in mean gaps between two arrivals.
        height: in pixels.
        width: in pixels.
    """

    at: float
    height: int
    width: int


def draw(images: int, seed: int) -> list[Arrival]:
    """Draw the arrivals of a Poisson process: half of the images in a common size, half in any.

    In the latter half, the logarithms of the longer side and of the aspect ratio (1 to 2.5, upright
    or lying) are uniformly distributed. Sides are multiples of 16.
    """
    choice = random.Random(seed)  # noqa: S311, nobody needs to be unable to guess it
    arrivals, at = [], 0.0
    for _ in range(images):
        height, width = _size(choice)
        arrivals.append(Arrival(round(at, 4), height, width))
        at += choice.expovariate(1)
    return arrivals


def repeat(arrivals: Sequence[Arrival], times: int) -> list[Arrival]:
    """The trace so many times in a row, a mean gap apart."""
    length = arrivals[-1].at + 1
    return [
        replace(arrival, at=arrival.at + number * length)
        for number in range(times)
        for arrival in arrivals
    ]


def write(file: Path, arrivals: Sequence[Arrival], seed: int) -> None:
    """Write ``arrivals`` to a file, one to a line."""
    lines = ",\n".join(f"  {json.dumps(asdict(arrival))}" for arrival in arrivals)
    file.write_text(f'{{"seed": {seed}, "arrivals": [\n{lines}\n]}}\n')


def read(file: Path) -> list[Arrival]:
    """Read the arrivals that ``write`` has written.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no trace, has no arrivals or has them out of order.
    """
    try:
        arrivals = [Arrival(**arrival) for arrival in json.loads(file.read_text())["arrivals"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not a trace: {type(error).__name__}: {error}") from error
    times = [arrival.at for arrival in arrivals]
    if not times or times != sorted(times):
        raise ValueError(f"{file} has no arrivals, or not in the order of time")
    return arrivals


def _size(choice: random.Random) -> tuple[int, int]:
    if choice.random() < SHARE_OF_COMMON:
        return choice.choice(COMMON)
    longer = math.exp(choice.uniform(math.log(SMALLEST), math.log(LARGEST)))
    shorter = longer / math.exp(choice.uniform(0, math.log(STEEPEST_ASPECT)))
    sides = [max(SMALLEST, round(side / MULTIPLE) * MULTIPLE) for side in (longer, shorter)]
    choice.shuffle(sides)
    return sides[0], sides[1]

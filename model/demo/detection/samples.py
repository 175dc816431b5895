"""Draw sample scenes from icons that training never saw.

``python -m vimserve.model.demo.detection.samples``
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vimserve.model.demo.detection.scenes import make_scene
from vimserve.model.demo.icons import HELD_OUT_SETS, by_class, load_icons

HERE = Path(__file__).parent / "samples"
SIZE = (1248, 1248)
DIFFICULTY = 0.4
SURE = 0.5  # the score above which something counts as found


class Sample(NamedTuple):
    """A scene and what the detector finds in it.

    Attributes:
        file: its name.
        seed: of the scene.
        found: names, right or wrong, by the pixels a side that the detector sees.
    """

    file: str
    seed: int
    found: dict[int, tuple[str, ...]]


# There are twelve objects: of those not found two are larger and cover one another, and two are
# smaller than 30 pixels. The rocket is the guitar's body.
SAMPLES = (
    Sample(
        "objects-1.jpg",
        20,
        {
            224: (),
            1248: (
                "bicycle", "boat", "car", "car", "flower", "guitar", "rocket", "soccer ball",
                "tree",
            ),
        },
    ),
)  # fmt: skip


def main() -> None:
    """Write all samples."""
    HERE.mkdir(exist_ok=True)
    icons = by_class(load_icons(HELD_OUT_SETS))
    for sample in SAMPLES:
        scene = make_scene(np.random.default_rng(sample.seed), icons, SIZE, DIFFICULTY)
        scene.image.save(HERE / sample.file, quality=82, optimize=True)


if __name__ == "__main__":
    main()

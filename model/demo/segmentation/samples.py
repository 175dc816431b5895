"""Draw sample scenes from icons that training never saw.

``python -m vimserve.model.demo.segmentation.samples``
"""

from pathlib import Path

import numpy as np

from vimserve.model.demo.icons import HELD_OUT_SETS, by_class, load_icons
from vimserve.model.demo.segmentation.scenes import make_scene

HERE = Path(__file__).parent / "samples"
SIZE = (1248, 1248)
DIFFICULTY = 0.4
# File name, seed, and the objects that the segmenter finds in it.
SAMPLES = (
    ("scene-1.jpg", 24, {"pizza", "boat", "guitar", "tree"}),
    ("scene-2.jpg", 5, {"boat", "cat", "umbrella", "flower"}),
    ("scene-3.jpg", 9, {"apple", "bus", "pizza", "umbrella"}),
)


def main() -> None:
    """Write all samples."""
    HERE.mkdir(exist_ok=True)
    icons = by_class(load_icons(HELD_OUT_SETS))
    for name, seed, _ in SAMPLES:
        scene = make_scene(np.random.default_rng(seed), icons, SIZE, DIFFICULTY)
        scene.image.save(HERE / name, quality=82, optimize=True)


if __name__ == "__main__":
    main()

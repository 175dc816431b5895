"""Draw samples from icons that training never saw: ``python -m vimserve.model.demo.samples``."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vimserve.model.demo.backgrounds import background
from vimserve.model.demo.icons import HELD_OUT_SETS, Icon, load_icons
from vimserve.model.demo.scenes import over, place, placement_of_side

HERE = Path(__file__).parent / "samples"
DIFFICULTY = 0.4


class Sample(NamedTuple):
    """A picture of one object.

    Attributes:
        file: its name.
        icon: of the held-out vendor.
        size: (height, width).
        seed: of the background and the placement.
        shares: least and most of the object's longer side, as shares of the picture's shorter one.
    """

    file: str
    icon: str
    size: tuple[int, int]
    seed: int
    shares: tuple[float, float] = (0.49, 0.95)


SAMPLES = (
    Sample("dog.jpg", "dog-face", (256, 256), 13),
    Sample("bicycle.jpg", "bicycle", (288, 448), 2),
    Sample("rocket-tall.jpg", "rocket", (640, 256), 2),
    Sample("pizza.png", "pizza", (224, 224), 8),
    Sample("umbrella.jpg", "umbrella", (384, 384), 14),
    Sample("fish.jpg", "tropical-fish", (320, 512), 7),
    Sample("boat.jpg", "sailboat", (480, 640), 8),
    Sample("flower-1248.jpg", "hibiscus", (1248, 1248), 10),
    Sample("fish-1248.jpg", "tropical-fish", (1248, 1248), 5, (0.07, 0.12)),
)


def draw(icon: Icon, sample: Sample) -> Image.Image:
    """The icon somewhere before a random background."""
    rng = np.random.default_rng(sample.seed)
    canvas = Image.fromarray(background(rng, sample.size).clip(0, 255).astype(np.uint8))
    side = rng.uniform(*sample.shares) * min(sample.size)
    placement = placement_of_side(rng, icon, sample.size, side, DIFFICULTY)
    return over(canvas, place(icon, placement, sample.size))


def main() -> None:
    """Write all samples."""
    HERE.mkdir(exist_ok=True)
    icons = {icon.name: icon for icon in load_icons(HELD_OUT_SETS)}
    for sample in SAMPLES:
        draw(icons[sample.icon], sample).save(HERE / sample.file, quality=82, optimize=True)


if __name__ == "__main__":
    main()

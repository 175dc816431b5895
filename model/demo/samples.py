"""Draw samples from icons that training never saw: ``python -m vimserve.model.demo.samples``."""

from pathlib import Path

import numpy as np
from PIL import Image

from vimserve.model.demo.backgrounds import background
from vimserve.model.demo.icons import HELD_OUT_SETS, Icon, load_icons
from vimserve.model.demo.scenes import over, place, random_placement

HERE = Path(__file__).parent / "samples"
# File name, icon, (height, width) and the seed of the background and the placement.
SAMPLES: tuple[tuple[str, str, tuple[int, int], int], ...] = (
    ("dog.jpg", "dog-face", (256, 256), 13),
    ("bicycle.jpg", "bicycle", (288, 448), 2),
    ("rocket-tall.jpg", "rocket", (640, 256), 2),
    ("pizza.png", "pizza", (224, 224), 8),
    ("umbrella.jpg", "umbrella", (384, 384), 14),
    ("fish.jpg", "fish", (320, 512), 5),
    ("boat.jpg", "sailboat", (480, 640), 8),
    ("flower-1248.jpg", "hibiscus", (1248, 1248), 10),
)


def draw(icon: Icon, size: tuple[int, int], seed: int) -> Image.Image:
    """The icon somewhere before a random background."""
    rng = np.random.default_rng(seed)
    canvas = Image.fromarray(background(rng, size).clip(0, 255).astype(np.uint8))
    return over(canvas, place(icon, random_placement(rng, icon, size, difficulty=0.4), size))


def main() -> None:
    """Write all samples."""
    HERE.mkdir(exist_ok=True)
    icons = {icon.name: icon for icon in load_icons(HELD_OUT_SETS)}
    for name, icon, size, seed in SAMPLES:
        draw(icons[icon], size, seed).save(HERE / name, quality=82, optimize=True)


if __name__ == "__main__":
    main()

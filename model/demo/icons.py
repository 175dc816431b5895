"""Emoji of open licences as pictures with an alpha channel, each with the label of its class.

The sets come from npm packages of pinned versions, fetched once with ``npm pack`` into a cache
folder and rendered once with resvg.
"""

import json
import subprocess
import tarfile
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from vimserve.model.cache_folders import cache_folder

RENDERED = 1024
RENDERED_FOR_TRAINING = 512  # with 1024, all icons would take 3 GB in each process
OPAQUE = 128
COARSE = 4  # filling an area takes long
TRAINING_SETS = {
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "fluent-emoji": "1.2.7",
    "fluent-emoji-flat": "1.2.6",
    "fxemoji": "1.2.2",
    "emojione": "1.2.3",
    "streamline-emojis": "1.2.4",
    "streamline-flex-color": "1.2.2",
    "streamline-plump-color": "1.2.2",
    "streamline-ultimate-color": "1.2.2",
    "icon-park": "1.2.4",
    "fluent-emoji-high-contrast": "1.2.6",
    "emojione-monotone": "1.2.1",
}
# Line drawings, whose insides are paper, but for the classes that one can see through.
LINE_DRAWINGS = ("icon-park", "fluent-emoji-high-contrast", "emojione-monotone")
OPEN_CLASSES = ("bicycle",)
HELD_OUT_SETS = {"twemoji": "1.2.5"}

CLASSES: dict[str, str] = {
    "airplane": "airplane small-airplane airport-plane",
    "apple": "red-apple green-apple redapple greenapple apple",
    "banana": "banana fruit-banana",
    "bicycle": "bicycle bicycle-bike bike",
    "bird": "bird black-bird duck eagle dove owl parrot bird-1 bird-2",
    "boat": "sailboat speedboat motor-boat ferry passenger-ship ship canoe sail-ship",
    "bus": "bus oncoming-bus oncomingbus trolleybus minibus bus-1 school-bus-side",
    "car": "automobile oncoming-automobile oncomingautomobile taxi oncoming-taxi oncomingtaxi "
    "police-car policecar oncoming-police-car oncomingpolicecar sport-utility-vehicle car car-4 "
    "car-retro car-taxi-1",
    "cat": "cat cat-face black-cat grinning-cat grinning-cat-face catside cat-2",
    "clock": "alarm-clock alarmclock mantelpiece-clock manltepiececlock one-oclock three-oclock "
    "four-oclock six-oclock seven-oclock ten-oclock clock1oclock clock4oclock clock7oclock "
    "clock2thirty circle-clock time-clock-circle",
    "dog": "dog dog-face dogside poodle guide-dog service-dog dog-1",
    "fish": "fish tropical-fish tropicalfish blowfish allergens-fish",
    "flower": "blossom hibiscus rose tulip sunflower sunflower-1 sunflower-2 cherry-blossom flower "
    "potted-flower",
    "guitar": "guitar modern-music-electric-guitar",
    "house": "house house-with-garden housebuilding housewithgarden derelict-house "
    "house-4 house-chimney home home-1 home-2",
    "pizza": "pizza pizza-1 pizza-2 sliceofpizza",
    "rocket": "rocket",
    "soccer ball": "soccer-ball soccerball soccer",
    "tree": "deciduous-tree evergreen-tree palm-tree deciduoustree evergreentree palmtree tree "
    "tree-1 pine-tree",
    "umbrella": "umbrella umbrella-with-rain-drops umbrellawithraindrops umbrella-on-ground "
    "closed-umbrella beachumbrella open-umbrella rain-umbrella-1",
}
LABELS = tuple(CLASSES)


@dataclass(frozen=True)
class Icon:
    """A picture with premultiplied alpha (mode ``RGBa``), cut to what is visible of it."""

    label: int
    vendor: str
    name: str
    picture: Image.Image

    @cached_property
    def _halvings(self) -> list[Image.Image]:
        levels = [self.picture]
        while max(levels[-1].size) > 96:
            levels.append(levels[-1].reduce(2))
        return levels

    def at_least(self, side: float) -> Image.Image:
        """The smallest halving of the picture that is no smaller than ``side`` pixels.

        Sizes are of the longer side. A picture that is smaller itself comes as it is.
        """
        return next(
            (level for level in reversed(self._halvings) if max(level.size) >= side), self.picture
        )


def load_icons(
    sets: dict[str, str],
    pixels: int = RENDERED,
    classes: dict[str, str] = CLASSES,
) -> list[Icon]:
    """Every icon of every class in the named sets, rendered so many ``pixels`` wide.

    Args:
        sets: their names and versions.
        pixels: of the renderings.
        classes: the names of icons of each class, the classes in the order of their labels.
    """
    cache = cache_folder("icons")
    wanted = {
        name: (label, of_class)
        for label, (of_class, names) in enumerate(classes.items())
        for name in names.split()
    }
    icons = []
    for vendor, version in sets.items():
        drawings = _fetch(vendor, version, cache)
        for name, (label, of_class) in wanted.items():
            if (svg := _svg(drawings, name, wanted)) is not None:
                paper = vendor in LINE_DRAWINGS and of_class not in OPEN_CLASSES
                file = cache / f"{vendor}-{version}-{pixels}" / f"{name}.png"
                picture = _rendered(svg, file, pixels, paper)
                icons.append(Icon(label, vendor, name, picture))
    return icons


def cut_out(picture: Image.Image) -> Image.Image:
    """An ``RGBA`` picture without its transparent margin, with premultiplied alpha."""
    return picture.crop(picture.getchannel("A").getbbox()).convert("RGBa")


def on_paper(picture: Image.Image) -> Image.Image:
    """A line drawing (``RGBa``) whose inside is white instead of transparent."""
    width, height = picture.size
    alpha = picture.getchannel("a").reduce(COARSE)
    outside = ImageOps.expand(alpha, 1)
    ImageDraw.floodfill(outside, (0, 0), 255, thresh=OPAQUE)
    inside = ImageOps.crop(outside, 1).point(lambda value: 255 * (value < OPAQUE))
    # The lines hide that the paper's edges are coarse.
    paper = Image.merge("RGBA", (inside,) * 4).resize((width, height))
    return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGBa")


def by_class(icons: Sequence[Icon]) -> list[list[Icon]]:
    """The icons of each label."""
    return [[icon for icon in icons if icon.label == label] for label in range(len(LABELS))]


def _fetch(vendor: str, version: str, cache: Path) -> dict[str, Any]:
    archive = cache / f"iconify-json-{vendor}-{version}.tgz"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        package = f"@iconify-json/{vendor}@{version}"
        subprocess.run(["npm", "pack", "--silent", package], cwd=cache, check=True)  # noqa: S603, S607
    with tarfile.open(archive) as package_files:
        member = package_files.extractfile("package/icons.json")
        assert member is not None
        drawings: dict[str, Any] = json.load(member)
    return drawings


def _svg(drawings: dict[str, Any], name: str, wanted: Container[str]) -> str | None:
    alias = drawings.get("aliases", {}).get(name)
    if alias:
        return None if alias["parent"] in wanted else _svg(drawings, alias["parent"], wanted)
    if name not in drawings["icons"]:
        return None
    icon = drawings["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", drawings.get("width", 16))
    height = icon.get("height", drawings.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def _rendered(svg: str, file: Path, pixels: int, paper: bool) -> Image.Image:
    if not file.exists():
        from resvg_py import svg_to_bytes  # only those who train need it

        file.parent.mkdir(parents=True, exist_ok=True)
        png = bytes(svg_to_bytes(svg_string=svg, width=pixels, skip_system_fonts=True))
        picture = cut_out(Image.open(BytesIO(png)).convert("RGBA"))
        (on_paper(picture) if paper else picture).convert("RGBA").save(file)
    return Image.open(file).convert("RGBA").convert("RGBa")

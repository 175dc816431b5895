"""Emoji of open licences as pictures with an alpha channel, each with the label of its class.

The sets come from npm packages of pinned versions, fetched once with ``npm pack`` into a cache
folder and rendered once with resvg.
"""

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

RENDERED = 1024
TRAINING_SETS = {
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "fluent-emoji": "1.2.7",
    "fluent-emoji-flat": "1.2.6",
    "fxemoji": "1.2.2",
    "emojione": "1.2.3",
    "streamline-emojis": "1.2.4",
}
HELD_OUT_SETS = {"twemoji": "1.2.5"}

CLASSES: dict[str, str] = {
    "airplane": "airplane small-airplane",
    "apple": "red-apple green-apple redapple greenapple",
    "banana": "banana",
    "bicycle": "bicycle",
    "bird": "bird black-bird duck eagle dove owl parrot bird-1 bird-2",
    "boat": "sailboat speedboat motor-boat ferry passenger-ship ship canoe",
    "bus": "bus oncoming-bus oncomingbus trolleybus minibus",
    "car": "automobile oncoming-automobile oncomingautomobile taxi oncoming-taxi oncomingtaxi "
    "police-car policecar oncoming-police-car oncomingpolicecar sport-utility-vehicle",
    "cat": "cat cat-face black-cat grinning-cat grinning-cat-face catside",
    "clock": "alarm-clock alarmclock mantelpiece-clock manltepiececlock one-oclock three-oclock "
    "four-oclock six-oclock seven-oclock ten-oclock clock1oclock clock4oclock clock7oclock "
    "clock2thirty",
    "dog": "dog dog-face dogside poodle guide-dog service-dog",
    "fish": "fish tropical-fish tropicalfish blowfish",
    "flower": "blossom hibiscus rose tulip sunflower sunflower-1 sunflower-2 cherry-blossom",
    "guitar": "guitar",
    "house": "house house-with-garden housebuilding housewithgarden derelict-house",
    "pizza": "pizza pizza-1 pizza-2 sliceofpizza",
    "rocket": "rocket",
    "soccer ball": "soccer-ball soccerball",
    "tree": "deciduous-tree evergreen-tree palm-tree deciduoustree evergreentree palmtree",
    "umbrella": "umbrella umbrella-with-rain-drops umbrellawithraindrops umbrella-on-ground "
    "closed-umbrella beachumbrella",
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


def cache_folder() -> Path:
    """Where the packages and renderings are kept: ``$XDG_CACHE_HOME/vimserve/icons``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "vimserve" / "icons"


def load_icons(sets: dict[str, str], cache: Path | None = None) -> list[Icon]:
    """Every icon of every class in the named sets, rendered at ``RENDERED`` pixels."""
    cache = cache or cache_folder()
    icons = []
    for vendor, version in sets.items():
        drawings = _fetch(vendor, version, cache)
        for name, label in _wanted():
            if (svg := _svg(drawings, name)) is not None:
                picture = _rendered(svg, cache / f"{vendor}-{version}" / f"{name}.png")
                icons.append(Icon(label, vendor, name, picture))
    return icons


def cut_out(picture: Image.Image) -> Image.Image:
    """An ``RGBA`` picture without its transparent margin, with premultiplied alpha."""
    return picture.crop(picture.getchannel("A").getbbox()).convert("RGBa")


def by_class(icons: Sequence[Icon]) -> list[list[Icon]]:
    """The icons of each label."""
    return [[icon for icon in icons if icon.label == label] for label in range(len(LABELS))]


def _wanted() -> Iterator[tuple[str, int]]:
    for label, names in enumerate(CLASSES.values()):
        for name in names.split():
            yield name, label


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


def _svg(drawings: dict[str, Any], name: str) -> str | None:
    alias = drawings.get("aliases", {}).get(name)
    if alias:
        return None if alias["parent"] in _names() else _svg(drawings, alias["parent"])
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


def _names() -> set[str]:
    return {name for name, _ in _wanted()}


def _rendered(svg: str, file: Path) -> Image.Image:
    if not file.exists():
        from resvg_py import svg_to_bytes  # only those who train need it

        file.parent.mkdir(parents=True, exist_ok=True)
        png = bytes(svg_to_bytes(svg_string=svg, width=RENDERED, skip_system_fonts=True))
        cut_out(Image.open(BytesIO(png)).convert("RGBA")).convert("RGBA").save(file)
    return Image.open(file).convert("RGBA").convert("RGBa")

"""Scenes of one icon before a procedural background, with the mask of the icon."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from vimserve.model.demo.backgrounds import background, color
from vimserve.model.demo.icons import Icon

# Of an object's longer side: in pixels, and as shares of the frame's shorter side.
SMALLEST_SIDE, SMALLEST_SHARE, LARGEST_SHARE = 40, 0.04, 0.95
EASY_SHARE = 0.65
# Where resolutions are compared, objects are small.
SMALL_SHARE = 0.3


@dataclass(frozen=True)
class Scene:
    """A picture, where its object is, and what it is.

    Attributes:
        image: RGB.
        mask: ``[H, W]`` bool, the pixels that the object covers.
        label: the object's class.
    """

    image: Image.Image
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    label: int


@dataclass(frozen=True)
class Placement:
    """How an icon is drawn: centre and size in pixels, the rest relative to the upright icon."""

    center: tuple[float, float]
    side: float
    degrees: float = 0.0
    mirrored: bool = False
    stretch: float = 1.0
    shear: float = 0.0


def make_scene(
    rng: np.random.Generator,
    icons: Sequence[Icon],
    size: tuple[int, int],
    difficulty: float = 1.0,
    largest: float = LARGEST_SHARE,
) -> Scene:
    """A scene of ``size`` (height, width) with one of ``icons``; ``rng`` decides everything.

    ``difficulty`` from 0 to 1 decides how small and how turned the object can be, and how often
    it is recoloured, plain shapes are drawn beside it and the picture is degraded. The object's
    longer side is at most ``largest`` times the frame's shorter one.
    """
    icon = icons[int(rng.integers(len(icons)))]
    canvas = Image.fromarray(background(rng, size).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.3 * difficulty:
        distract(rng, canvas, largest=0.25)
    side = random_side(rng, size, difficulty, largest)
    box, layer = window(icon, placement_of_side(rng, icon, size, side, difficulty), size)
    mask = np.zeros(size, np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = np.asarray(layer.getchannel("a")) > 127
    if rng.random() < 0.7 * difficulty:
        layer = recolored(rng, layer)
    canvas.paste(over(canvas.crop(box), layer), box[:2])
    if rng.random() < 0.1 * difficulty:
        distract(rng, canvas, largest=0.1)
    return Scene(degraded(rng, canvas, difficulty), mask, icon.label)


def random_side(
    rng: np.random.Generator, size: tuple[int, int], difficulty: float, largest: float
) -> float:
    """The longer side of an object in pixels, spread evenly on a logarithmic scale.

    It is at most ``largest`` times the shorter side of the frame ``size`` (height, width). At
    difficulty 0 it is at least 65 % of that side, at difficulty 1 at least 4 % and 40 pixels.
    """
    frame = min(size)
    most = largest * frame
    easy = min(EASY_SHARE * frame, most)
    hard = min(smallest_side(size), most)
    least = easy ** (1 - difficulty) * hard**difficulty
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


def smallest_side(size: tuple[int, int]) -> float:
    """The longer side of the smallest objects in a frame of ``size`` (height, width), in pixels."""
    return max(SMALLEST_SHARE * min(size), SMALLEST_SIDE)


def placement_of_side(
    rng: np.random.Generator, icon: Icon, size: tuple[int, int], side: float, difficulty: float
) -> Placement:
    """A random place for an icon whose longer side is ``side`` pixels, mostly within the frame."""
    width, height = (side * n / max(icon.picture.size) for n in icon.picture.size)
    degrees = rng.normal(0, 14) * difficulty
    if rng.random() < 0.08 * difficulty:
        degrees = rng.uniform(-180, 180)
    room = [max(0.0, (n - extent) / 2) for n, extent in zip(size, (height, width), strict=True)]
    center = [n / 2 + rng.uniform(-r, r) for n, r in zip(size, room, strict=True)]
    return Placement(
        (center[0], center[1]),
        side,
        degrees,
        bool(rng.random() < 0.5),
        float(np.exp(rng.normal(0, 0.1))),
        float(rng.normal(0, 0.1)),
    )


def window(
    icon: Icon, placement: Placement, size: tuple[int, int]
) -> tuple[tuple[int, int, int, int], Image.Image]:
    """The part of a frame that an icon can touch (left, top, right, bottom), and the icon in it."""
    y, x = placement.center
    reach = placement.side  # from the centre, whatever the angle, stretch and shear
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    right, bottom = min(size[1], int(x + reach) + 1), min(size[0], int(y + reach) + 1)
    moved = replace(placement, center=(y - top, x - left))
    return (left, top, right, bottom), place(icon, moved, (bottom - top, right - left))


def place(icon: Icon, placement: Placement, size: tuple[int, int]) -> Image.Image:
    """The icon alone in a transparent frame of ``size``, with premultiplied alpha."""
    picture = icon.at_least(placement.side)
    scale = placement.side / max(picture.size)
    angle = math.radians(placement.degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    across = scale * math.sqrt(placement.stretch) * (-1 if placement.mirrored else 1)
    down = scale / math.sqrt(placement.stretch)
    # Columns: where a step right and a step down in the icon lead in the frame (x, y).
    forward = np.array([[cos, -sin], [sin, cos]]) @ np.array(
        [[across, down * placement.shear], [0, down]]
    )
    back = np.linalg.inv(forward)
    middle = np.array(picture.size) / 2
    offset = middle - back @ np.array([placement.center[1], placement.center[0]])
    matrix = (*back[0], offset[0], *back[1], offset[1])
    return picture.transform(
        (size[1], size[0]), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )


def over(canvas: Image.Image, layer: Image.Image) -> Image.Image:
    """Lay a picture with premultiplied alpha over an RGB one of the same size."""
    below = np.asarray(canvas, dtype=np.uint16)
    above = np.asarray(layer, dtype=np.uint16)
    mixed = above[..., :3] + below * (255 - above[..., 3:]) // 255
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def recolored(rng: np.random.Generator, layer: Image.Image) -> Image.Image:
    """Change hue, saturation and brightness; premultiplied colours never exceed the alpha."""
    matrix = np.eye(3, dtype=np.float32)
    if rng.random() < 0.7:
        matrix = _hue_rotation(rng.normal(0, 0.35))
    grey = np.full((3, 3), 1 / 3, dtype=np.float32)
    saturation = np.float32(rng.uniform(0, 1.4) if rng.random() < 0.5 else 1)
    matrix = (matrix * saturation + grey * (1 - saturation)) @ np.diag(rng.uniform(0.7, 1.25, 3))
    pixels = np.asarray(layer, dtype=np.float32)
    alpha = pixels[..., 3:]
    colors = (pixels[..., :3] @ matrix.T.astype(np.float32)).clip(0, alpha)
    changed = np.concatenate((colors, alpha), axis=-1).astype(np.uint8)
    return Image.frombuffer("RGBa", layer.size, changed.tobytes(), "raw", "RGBa", 0, 1)


def _hue_rotation(radians: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rotation of RGB about the grey axis."""
    cos, sin = math.cos(radians), math.sin(radians) / math.sqrt(3)
    matrix = np.full((3, 3), (1 - cos) / 3) + cos * np.eye(3)
    matrix += sin * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return matrix.astype(np.float32)


def distract(rng: np.random.Generator, canvas: Image.Image, largest: float) -> None:
    """Draw a few plain shapes, in place."""
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(1, 5)):
        fill = tuple(int(c) for c in color(rng))
        side = rng.uniform(0.02, largest) * min(canvas.size)
        x, y = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height)
        corners = rng.normal((x, y), side / 2, (3, 2))
        kind = rng.integers(4)
        if kind == 0:
            draw.ellipse((x - side / 2, y - side / 3, x + side / 2, y + side / 3), fill)
        elif kind == 1:
            draw.rectangle((x - side / 2, y - side / 2, x + side / 2, y + side / 2), fill)
        elif kind == 2:
            draw.polygon([tuple(corner) for corner in corners], fill)
        else:
            ends = [tuple(corners[0]), tuple(corners[1] * 2 - corners[0])]
            draw.line(ends, fill, max(1, int(side / 8)))


def degraded(
    rng: np.random.Generator,
    image: Image.Image,
    difficulty: float,
) -> Image.Image:
    """Change brightness or contrast, take away colour, blur, add noise or JPEG artefacts.

    Each happens at random, more often at a higher ``difficulty`` (0 to 1).
    """
    if rng.random() < 0.4 * difficulty:
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.4))
    if rng.random() < 0.4 * difficulty:
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.6, 1.5))
    if rng.random() < 0.05 * difficulty:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.15 * difficulty:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1)))
    if rng.random() < 0.1 * difficulty:
        pixels = np.asarray(image, dtype=np.float32)
        noise = rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(3, 20)
        image = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.2 * difficulty:
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(25, 90)))
        image = Image.open(buffer).convert("RGB")
    return image

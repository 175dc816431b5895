"""Procedural backgrounds: float32 pictures ``[H, W, 3]`` from 0 to 255."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

Pixels = np.ndarray[Any, np.dtype[np.float32]]
Size = tuple[int, int]


def background(rng: np.random.Generator, size: Size) -> Pixels:
    """A random kind of background of ``size`` (height, width)."""
    return _KINDS[rng.choice(len(_KINDS), p=_SHARES)](rng, size)


def color(rng: np.random.Generator) -> Pixels:
    """A random colour; greys, black and white are as frequent as they are in pictures."""
    if rng.random() < 0.25:
        return np.full(3, rng.choice([0, 255, rng.uniform(0, 255)]), dtype=np.float32)
    value: Pixels = rng.uniform(0, 255, 3).astype(np.float32)
    return value


def _flat(rng: np.random.Generator, size: Size) -> Pixels:
    return np.broadcast_to(color(rng), (*size, 3)).copy()


def _gradient(rng: np.random.Generator, size: Size) -> Pixels:
    down, across = _coordinates(size)
    angle = rng.uniform(0, 2 * math.pi)
    ramp = down * math.sin(angle) + across * math.cos(angle)
    return _between(color(rng), color(rng), ((ramp + 0.7) / 1.4).astype(np.float32))


def _vignette(rng: np.random.Generator, size: Size) -> Pixels:
    down, across = _coordinates(size)
    y, x = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
    distance = np.hypot(down - y, across - x).astype(np.float32)
    return _between(color(rng), color(rng), distance)


def _blobs(rng: np.random.Generator, size: Size) -> Pixels:
    rows, cols = rng.integers(2, 7, 2)
    cells = np.stack([color(rng) for _ in range(rows * cols)]).reshape(rows, cols, 3)
    return _resize(cells, size)


def _stripes(rng: np.random.Generator, size: Size) -> Pixels:
    down, across = _coordinates(size)
    angle = rng.uniform(0, math.pi)
    wave = down * np.float32(math.sin(angle)) + across * np.float32(math.cos(angle))
    wave = np.sin(wave * np.float32(rng.uniform(8, 60)))
    softness = np.float32(rng.choice([0.5, 4, 30]))
    return _between(color(rng), color(rng), wave * softness + 0.5)


def _checks(rng: np.random.Generator, size: Size) -> Pixels:
    down, across = _coordinates(size)
    count = np.float32(rng.uniform(2, 16))
    odd = (np.floor(down * count) + np.floor(across * count)) % 2
    return _between(color(rng), color(rng), odd)


def _texture(rng: np.random.Generator, size: Size) -> Pixels:
    """Noise of several octaves through a palette of three colours."""
    height = np.zeros(size, dtype=np.float32)
    cells, strength = int(rng.integers(2, 6)), 1.0
    roughness = rng.uniform(0.4, 0.9)
    stretch = rng.choice([0.3, 1.0, 1.0, 3.0])
    while cells < min(*size, 160):
        grid = rng.uniform(-1, 1, (cells, max(2, int(cells * stretch)))).astype(np.float32)
        height += np.float32(strength) * _resize(grid, size)
        cells, strength = cells * 2, strength * roughness
    height = (height - height.min()) / (np.ptp(height) + np.float32(1e-6))
    first, second, third = color(rng), color(rng), color(rng)
    return _between(_between(first, second, height * 2), third, height * 2 - 1)


def _mixture(rng: np.random.Generator, size: Size) -> Pixels:
    mask = _resize(rng.uniform(-2, 3, (3, 3)).astype(np.float32), size)
    kinds = (_gradient, _blobs, _stripes, _checks, _texture)
    first, second = (kinds[rng.integers(len(kinds))](rng, size) for _ in range(2))
    return _between(first, second, mask)


_KINDS: tuple[Callable[[np.random.Generator, Size], Pixels], ...] = (
    _flat, _gradient, _vignette, _blobs, _stripes, _checks, _texture, _mixture,
)  # fmt: skip
_SHARES = (0.2, 0.12, 0.08, 0.14, 0.08, 0.08, 0.2, 0.1)


def _coordinates(size: Size) -> tuple[Pixels, Pixels]:
    """Rows and columns from -1/2 to 1/2 of the longer side."""
    longer = max(size)
    down, across = (np.linspace(-0.5, 0.5, n, dtype=np.float32) * (n / longer) for n in size)
    return down[:, None].astype(np.float32), across[None].astype(np.float32)


def _between(first: Pixels, second: Pixels, share: Pixels) -> Pixels:
    """``first`` where the share is 0 or less, ``second`` where it is 1 or more."""
    share = np.clip(share, 0, 1)[..., None]
    mixed: Pixels = first + (second - first) * share
    return mixed


def _resize(cells: Pixels, size: Size) -> Pixels:
    picture = Image.fromarray(cells.astype(np.uint8) if cells.ndim == 3 else cells)
    resized = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.float32)

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vimserve.model.heads import duplicates
from vimserve.model.heads.duplicates import near_duplicates, thumbnail


def scene(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((120, 100), Image.Resampling.BICUBIC)


def small(picture: Image.Image) -> np.ndarray:
    return thumbnail(torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def as_jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


def test_other_sizes_and_encodings_of_a_picture_are_found() -> None:
    first = {f"train {seed}": small(scene(seed)) for seed in range(30)}
    second = {
        "jpeg of 3": small(as_jpeg(scene(3))),
        "half of 7": small(scene(7).resize((60, 50))),
        "brighter 9": small(scene(9).point(lambda value: min(value + 3, 255))),
        **{f"other {seed}": small(scene(seed)) for seed in range(100, 130)},
    }
    assert [*near_duplicates(first, second)] == [
        ("train 3", "jpeg of 3"), ("train 7", "half of 7"), ("train 9", "brighter 9")
    ]  # fmt: skip


def test_flat_pictures_of_other_colours_are_not_alike() -> None:
    flat = {str(level): np.full((8, 9), level, np.float32) for level in (0, 100, 255)}
    assert [*near_duplicates(flat, {"grey": np.full((8, 9), 97, np.float32)})] == []
    assert [*near_duplicates(flat, {"grey": np.full((8, 9), 99, np.float32)})] == [("100", "grey")]


def test_no_pictures_have_no_twins() -> None:
    assert [*near_duplicates({}, {"a": small(scene(0))})] == []
    assert [*near_duplicates({"a": small(scene(0))}, {})] == []


def test_many_pictures_are_looked_at_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {str(seed): small(scene(seed)) for seed in range(20)}
    second = {"a": small(scene(17)), "b": small(scene(2)), "c": small(scene(50))}
    monkeypatch.setattr(duplicates, "CHUNK", 2)
    assert [*duplicates.near_duplicates(first, second)] == [("17", "a"), ("2", "b")]

import io

import pytest
from PIL import Image, UnidentifiedImageError

from vimserve.loadtests.common import images


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_intact(kind):
    data = images.intact(96, 160, 3, kind)
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == (kind, (160, 96))
    assert data == images.intact(96, 160, 3, kind)
    assert len({images.intact(96, 160, seed, kind) for seed in range(40)}) > 10


def test_truncated():
    data = images.truncated(96, 160, 3)
    assert images.intact(96, 160, 3).startswith(data)
    with Image.open(io.BytesIO(data)) as picture, pytest.raises(OSError, match="truncated"):
        picture.load()


def test_no_image():
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(images.no_image(1000, 3)))


def test_bomb_and_strip(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(io.BytesIO(images.bomb())) as picture:
        assert picture.width * picture.height == 200_000_000
    with Image.open(io.BytesIO(images.strip())) as picture:
        picture.load()
        assert picture.size == (1_000_000, 1)


def test_floods_are_images_all_the_same():
    for data in images.floods():
        assert len(data) < 3_000_000
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.width in (64, images.SCANNED_SIDE)


def test_a_laden_picture_has_the_same_pixels():
    png = images.intact(32, 48, 3, "PNG")
    with Image.open(io.BytesIO(images.laden(png))) as laden:
        assert len(laden.info["icc_profile"]) == images.PROFILE_BYTES
        with Image.open(io.BytesIO(png)) as plain:
            assert laden.tobytes() == plain.tobytes()

"""Images that come as arrays."""

import numpy as np
import pytest
import torch

from vimserve.model.transform import Transform
from vimserve.server.errors import CorruptImage, ImageTooLarge, InvalidParameter
from vimserve.server.images.arrays import NormalisedImage, PixelArray


@pytest.fixture
def array(picture):
    return np.array(picture(40, 60))


@pytest.mark.parametrize(
    "transform",
    [
        Transform(resolution=32),
        Transform(resolution=None, fit="contain"),
        Transform(resolution=48, fit="contain", bands=(3, 2, 1)),
        Transform(resolution=None, fit="contain", multiple=4, bands=(2,)),
    ],
)
def test_pixels_are_those_of_the_picture(array, picture, transform):
    opened = PixelArray(array).open(2400)
    assert opened.size == (40, 60)
    bands = [band - 1 for band in transform.bands or (1, 2, 3)]
    wanted = transform(picture(40, 60))[bands * (3 // len(bands))]
    assert torch.equal(opened.pixels(transform), wanted)
    shown = np.array(picture(40, 60))[..., bands * (3 // len(bands))]
    assert (np.asarray(opened.picture(transform)) == shown).all()


def test_limits_and_bands(array):
    with pytest.raises(ImageTooLarge, match="2400 pixels"):
        PixelArray(array).open(2399)
    with pytest.raises(InvalidParameter):
        PixelArray(array).pixels(Transform(bands=(4,)))


def test_normalised_images_are_taken_as_they_are():
    array = np.linspace(-2, 2, 3 * 32 * 48, dtype=np.float32).reshape(3, 32, 48)
    transform = Transform(resolution=None, fit="contain")
    opened = NormalisedImage(array, largest=2).open(32 * 48)
    assert torch.equal(opened.pixels(transform), torch.from_numpy(array))
    for bad in (2.5, -2.5, np.inf, np.nan):
        array[1, 2, 3] = bad
        with pytest.raises(CorruptImage, match="normalised"):
            opened.pixels(transform)
    with pytest.raises(ImageTooLarge):
        opened.open(32 * 48 - 1)

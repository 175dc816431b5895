import gc

import numpy as np
import pytest
import torch
from PIL import Image

from vimserve.kernels.cut_rgbx import PATCH, has_cut_rgbx
from vimserve.model.batch import PackedBatch
from vimserve.model.rgbx import channels


def picture(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", [(1, 1), (31, 50), (64, 96)])
def test_channels_are_the_pictures(size):
    image = picture(*size)
    assert np.array_equal(channels(image).permute(1, 2, 0), np.array(image))


def test_the_memory_is_shared_and_outlives_the_picture():
    image = picture(64, 96)
    expected, pixels = torch.from_numpy(np.array(image)), channels(image)
    pixels[0, 0, 0] ^= 255
    assert np.asarray(image)[0, 0, 0] == pixels[0, 0, 0] != expected[0, 0, 0]
    pixels[0, 0, 0] ^= 255

    image.close()
    del image
    gc.collect()
    others = [picture(64, 96) for _ in range(8)]  # which would take its memory
    assert torch.equal(pixels.permute(1, 2, 0), expected)
    assert has_cut_rgbx(pixels, PATCH)
    del others


def test_a_picture_in_several_blocks_is_copied():
    image = picture(128, 96)
    core = vars(Image)["core"]  # not declared
    before = core.get_block_size()
    core.set_block_size(4096)
    try:
        parts = image.copy()
    finally:
        core.set_block_size(before)
    with pytest.raises(ValueError, match="not contiguous"):
        parts.__arrow_c_array__()
    assert torch.equal(channels(parts), channels(image))
    cut, expected = (PackedBatch.from_images([channels(one)]).patches for one in (parts, image))
    assert torch.equal(cut, expected)


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="must be RGB, not L"):
        channels(Image.new("L", (4, 4)))

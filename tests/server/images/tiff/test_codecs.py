"""Strips that are larger than what is decompressed at once."""

import numpy as np
import pytest

from tests.server.images.tiff.writer import COMPRESS, tiff
from vimserve.model.transform import Transform
from vimserve.server.errors import CorruptImage
from vimserve.server.images.source import EncodedImage
from vimserve.server.images.tiff.codecs import STEP


@pytest.mark.parametrize("compression", [5, 8, 34925, 50000])
@pytest.mark.parametrize("noisy", [False, True])
def test_a_strip_of_several_steps(compression, noisy):
    size = (3 * STEP // 1000 + 1, 1000, 1)
    samples = np.random.default_rng(0).integers(0, 256 if noisy else 2, size, dtype=np.uint8)
    data = tiff(samples, 8, compression=compression)
    ours = np.asarray(EncodedImage(data).open(10**7).picture(Transform()))
    np.testing.assert_array_equal(ours[..., :1], samples)


@pytest.mark.parametrize("compression", [5, 8, 34925, 50000])
def test_a_strip_that_ends_early(compression):
    samples = np.random.default_rng(0).integers(0, 256, (3000, 1000, 1), dtype=np.uint8)

    def half(part):
        return COMPRESS[compression](part[:1500].tobytes())

    data = tiff(samples, 8, compression=compression, encode=half)
    with pytest.raises(CorruptImage, match="strip or tile 0 cannot be decoded"):
        EncodedImage(data).open(10**7).picture(Transform())

import numpy as np
import pytest
from PIL import Image

from vimserve.server.images import rgb
from vimserve.server.images.rgb import to_rgb, whole_to_rgb


def test_16_bits_are_rounded_and_beyond_them_is_cut_off():
    values = np.array([[0, 128, 129, 257, 65535, 65407]], dtype=np.uint16)
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 0, 1, 1, 255, 255]
    wide = np.array([[-5, 70000]], dtype=np.int32)
    assert np.asarray(to_rgb(Image.fromarray(wide)))[0, :, 1].tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "RGB"])
def test_strips_give_what_the_whole_gives(mode, picture, monkeypatch):
    monkeypatch.setattr(rgb, "STRIP_PIXELS", 100)
    image = picture(50, 30)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    if mode == "RGBA":
        image.putalpha(picture(50, 30, 1).convert("L"))
    assert whole_to_rgb(image).tobytes() == to_rgb(image).tobytes()
    assert whole_to_rgb(image).mode == "RGB"

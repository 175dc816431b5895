import numpy as np
import pytest
from PIL import Image

from vimserve.model import resize as module
from vimserve.model.resize import between_pixels, resize

BICUBIC = Image.Resampling.BICUBIC


def on_white(image):
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def picture(height, width):
    coarse = np.random.default_rng(0).integers(40, 216, (5, 6, 4), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), BICUBIC)


@pytest.mark.parametrize(
    ("size", "target"),
    [((300, 400), (64, 48)), ((400, 300), (48, 64)), ((90, 30), (64, 64)), ((30, 90), (64, 64))],
)
@pytest.mark.parametrize("part", [(0, 0, 1, 1), (0.21, 0.1, 0.63, 0.93), (0.4, 0.4, 0.6, 0.6)])
def test_strips_give_what_the_whole_gives(size, target, part, monkeypatch):
    monkeypatch.setattr(module, "STRIP_PIXELS", 1000)
    image = picture(*size)
    box = tuple(side * share for side, share in zip(image.size * 2, part, strict=True))
    whole = on_white(image).resize(target, BICUBIC, box=box)
    strips = resize(image, target, box, on_white)
    assert strips.size == target
    # The order of the two passes rounds in other places.
    np.testing.assert_allclose(np.asarray(strips).astype(int), np.asarray(whole), atol=2)


def test_no_more_than_a_strip_is_converted_at_once(monkeypatch):
    monkeypatch.setattr(module, "STRIP_PIXELS", 1000)
    parts = []

    def counted(image):
        parts.append(image.width * image.height)
        return on_white(image)

    resize(picture(300, 400), (64, 48), (0, 0, 400, 300), counted)
    assert sum(parts) >= 300 * 400
    assert max(parts) <= 1000


def test_rows_that_do_not_matter_are_not_converted(monkeypatch):
    monkeypatch.setattr(module, "STRIP_PIXELS", 1000)
    parts = []

    def counted(image):
        parts.append(image.width * image.height)
        return on_white(image)

    resize(picture(300, 400), (64, 48), (100, 100, 300, 150), counted)
    assert sum(parts) < 300 * 400 / 3


def test_a_high_narrow_picture_is_made_lower_first(monkeypatch):
    monkeypatch.setattr(module, "MOST_BETWEEN", 1000)
    made = []
    new = Image.new

    def noted(mode, size):
        made.append(size)
        return new(mode, size)

    image = picture(900, 3).convert("RGB")
    monkeypatch.setattr(Image, "new", noted)
    low = resize(image, (16, 90), (0, 0, 3, 900), lambda part: part)
    assert low.size == (16, 90)
    assert made[-1] == (3, 90)
    assert (16, 900) not in made
    assert between_pixels((900, 3), (90, 16)) == 1000


def test_a_picture_of_the_right_size_is_not_copied():
    image = picture(40, 30).convert("RGB")
    assert resize(image, (30, 40), (0, 0, 30, 40), lambda part: part) is image
    assert resize(image, (30, 40), (0, 0, 29, 40), lambda part: part) is not image


def test_a_small_picture_is_resized_in_one_go():
    image = picture(100, 120)
    whole = on_white(image).resize((224, 224), BICUBIC, box=(3, 4, 90, 80))
    assert resize(image, (224, 224), (3, 4, 90, 80), on_white).tobytes() == whole.tobytes()

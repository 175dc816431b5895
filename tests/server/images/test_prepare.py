import pytest
import torch

from vimserve.model.slide import Window
from vimserve.model.transform import Transform
from vimserve.server.config import Config
from vimserve.server.engine.runner import Runner
from vimserve.server.errors import ImageTooLarge, UnsupportedImage
from vimserve.server.images.prepare import Limits, measure, whole
from vimserve.server.images.source import EncodedImage

LIMITS = Limits(pixels=1_000_000, resolution=256)
NATIVE = Transform(resolution=None, fit="contain")


@pytest.fixture
def runner(tiny, spec):
    return Runner(spec, Config())


@pytest.fixture
def upload(picture, encode):
    def make(height, width, name=None):
        return EncodedImage(encode(picture(height, width)), name)

    return make


def test_what_an_image_costs_is_known_before_it_is_decoded(runner, upload):
    measured = measure(upload(100, 200, "a.png"), runner, NATIVE, LIMITS)
    assert measured.name == "a.png"
    assert (measured.image_size, measured.size) == ((100, 200), (96, 192))
    assert measured.views == whole((96, 192)) == [Window(0, 0, 96, 192)]
    assert measured.lengths == [6 * 12 + 1]
    assert measured.tokens == 73


def test_the_whole_input_as_an_image_of_the_engine(runner, upload):
    (image,) = measure(upload(100, 200), runner, NATIVE, LIMITS).prepare((7, 9))
    assert (image.size, image.tokens, image.wanted) == ((96, 192), 73, (7, 9))
    assert image.patches.grids == ((6, 12),)
    assert image.patches.patches.dtype == torch.uint8


def test_every_view_is_an_image_of_the_engine(runner, upload):
    def halves(size):
        height, width = size
        return [Window(0, 0, height, width // 2), Window(0, width // 2, height, width // 2)]

    source = upload(64, 128)
    measured = measure(source, runner, NATIVE, LIMITS, halves)
    left, right = measured.prepare(None)
    assert measured.lengths == [left.tokens, right.tokens] == [17, 17]
    assert left.wanted is right.wanted is None
    (both,) = measure(source, runner, NATIVE, LIMITS).prepare(None)
    rows = both.patches.patches.view(4, 8, -1)
    assert torch.equal(left.patches.patches, rows[:, :4].reshape(16, -1))
    assert torch.equal(right.patches.patches, rows[:, 4:].reshape(16, -1))


def test_the_picture_is_the_image_in_its_own_size(runner, upload):
    measured = measure(upload(100, 200), runner, Transform(resolution=32), LIMITS)
    assert measured.size == (32, 32)
    assert measured.picture().size == (200, 100)


@pytest.mark.parametrize(
    ("size", "fits"), [((256, 16), True), ((257, 16), True), ((280, 16), False)]
)
def test_the_longest_side_of_the_input(runner, upload, size, fits):
    if fits:
        measure(upload(*size), runner, NATIVE, LIMITS)
        return
    with pytest.raises(ImageTooLarge, match=r"its longest side may have 256") as caught:
        measure(upload(*size), runner, NATIVE, LIMITS)
    assert (caught.value.parameter, caught.value.limit) == ("resolution", 256)


def whole_rows(size):
    return [Window(0, left, size[0], 16) for left in range(0, size[1], 16)]


def quarters(size):
    height, width = size[0] // 2, size[1] // 2
    return [Window(top, left, height, width) for top in (0, height) for left in (0, width)]


def test_the_longest_side_is_that_of_a_view(runner, upload):
    measured = measure(upload(512, 416), runner, NATIVE, LIMITS, quarters)
    assert [(view.height, view.width) for view in measured.views] == 4 * [(256, 208)]
    with pytest.raises(ImageTooLarge, match=r"272x208 pixels, but its longest side may have 256"):
        measure(upload(544, 416), runner, NATIVE, LIMITS, quarters)


def test_an_input_of_many_views_that_is_much_larger_than_its_image(runner, upload):
    limits = Limits(pixels=50_000, resolution=256)
    measure(upload(9, 5500), runner, NATIVE, limits, whole_rows)
    with pytest.raises(ImageTooLarge, match=r"16x6256 pixels, more than the 65536") as caught:
        measure(upload(1, 6256), runner, NATIVE, Limits(10_000, 256), whole_rows)
    assert (caught.value.parameter, caught.value.limit) == ("resolution", 65536)


def test_what_an_image_of_many_views_keeps_is_counted(runner, upload):
    one = measure(upload(256, 256), runner, NATIVE, LIMITS)
    many = measure(upload(256, 256), runner, NATIVE, LIMITS, quarters)
    resized = measure(upload(260, 260), runner, NATIVE, LIMITS, quarters)
    assert many.prepare_cost.num_bytes == one.prepare_cost.num_bytes + 3 * 256**2
    assert resized.prepare_cost.num_bytes > many.prepare_cost.num_bytes + 4 * 256**2


def test_the_image_s_own_pixels(runner, upload):
    with pytest.raises(ImageTooLarge) as caught:
        measure(upload(100, 101), runner, NATIVE, Limits(pixels=10_000, resolution=256))
    assert (caught.value.limit, caught.value.value) == (10_000, 10_100)


def test_no_image(runner):
    with pytest.raises(UnsupportedImage):
        measure(EncodedImage(b"no image"), runner, NATIVE, LIMITS)

import numpy as np
import pytest
import torch
from PIL import Image

from vimserve.model.transform import Transform, pad_normalised


def smooth(height, width):
    coarse = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def published(image, resolution):
    """The published evaluation: the shorter side to resolution / 0.875, then the centre."""
    shorter = int(resolution / 0.875)
    scale = shorter / min(image.size)
    width, height = (
        shorter if side == min(image.size) else int(side * scale) for side in image.size
    )
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    top, left = round((height - resolution) / 2), round((width - resolution) / 2)
    return image.crop((left, top, left + resolution, top + resolution))


def channels_first(image):
    return np.asarray(image, dtype=np.float64).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("height", "width"), [(300, 400), (400, 300), (256, 256), (90, 1000), (1000, 90), (37, 41)]
)
@pytest.mark.parametrize("resolution", [96, 224])
def test_crop_is_the_published_evaluation(height, width, resolution):
    image = smooth(height, width)
    tensor = Transform(resolution)(image)
    assert tensor.shape == (3, resolution, resolution)
    assert tensor.dtype == torch.uint8
    expected = channels_first(published(image, resolution))
    # Two grey levels: Pillow rounds once per pass, and picks the order of the passes.
    np.testing.assert_allclose(tensor, expected, atol=2.1)


@pytest.mark.parametrize(
    ("transform", "size", "expected"),
    [
        (Transform(224), (300, 400), (224, 224)),
        (Transform(100), (300, 400), (96, 96)),
        (Transform(8), (300, 400), (16, 16)),
        (Transform(None), (300, 401), (288, 400)),
        (Transform(None), (5, 7), (16, 16)),
        (Transform(224, "contain"), (290, 400), (160, 224)),
        (Transform(224, "contain"), (400, 290), (224, 160)),
        (Transform(224, "contain"), (1, 4000), (16, 224)),
        (Transform(None, "contain"), (300, 409), (304, 416)),
        (Transform(None, "contain", shorter=512), (300, 600), (512, 1024)),
        (Transform(None, "contain", shorter=512), (2000, 1000), (1024, 512)),
        (Transform(None, "contain", shorter=512, at_most=640), (300, 600), (320, 640)),
        (Transform(None, "contain", at_most=640), (300, 400), (304, 400)),
        (Transform(None, "contain", at_most=640), (320, 1280), (160, 640)),
        (Transform(320, "contain", shorter=512, at_most=640), (300, 600), (160, 320)),
        (Transform(224, multiple=8), (300, 400), (224, 224)),
        (Transform(4, multiple=8), (300, 400), (16, 16)),
    ],
)
def test_sizes(transform, size, expected):
    assert transform.output_size(*size) == expected
    assert transform(smooth(*size)).shape == (3, *expected)


@pytest.mark.parametrize("fit", ["crop", "contain"])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_reduced_picture_gives_the_same_input(fit, factor):
    transform = Transform(64, fit)
    image = smooth(240, 400)
    tensor = transform(image.reduce(factor), (240, 400))
    expected = transform(image)
    assert tensor.shape == expected.shape
    np.testing.assert_allclose(tensor.float(), expected.float(), atol=6)


def test_decode_size_covers_the_output():
    for transform in (Transform(224), Transform(224, "contain"), Transform(None)):
        for size in [(1, 1), (1, 5000), (5000, 1), (224, 224), (333, 777)]:
            whole, output = transform.decode_size(*size), transform.output_size(*size)
            assert whole[0] >= output[0]
            assert whole[1] >= output[1]


def test_an_extreme_strip_needs_little_memory():
    strip = Image.new("RGB", (1_000_000, 2), "red")
    assert Transform(224)(strip).shape == (3, 224, 224)


@pytest.mark.parametrize(
    "wrong", [{"resolution": 0}, {"fit": "stretch"}, {"crop_ratio": 0.0}, {"crop_ratio": 1.5}]
)
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Transform(**wrong)


def test_what_a_request_asks_for():
    transform = Transform(224, "crop", crop_ratio=0.9)
    assert transform.with_request(None, None) == transform
    assert transform.with_request(512, None).resolution == 512
    assert transform.with_request("native", None).resolution is None
    assert transform.with_request(None, "contain").fit == "contain"
    assert transform.with_request(512, "contain").crop_ratio == 0.9


def published_square(height, width, side):
    """The published sizes (Detectron2's ``ResizeShortestEdge`` with both limits at ``side``)."""
    scale = side / min(height, width)
    new_h, new_w = (side, scale * width) if height < width else (scale * height, side)
    if max(new_h, new_w) > side:
        limit = side / max(new_h, new_w)
        new_h, new_w = new_h * limit, new_w * limit
    return int(new_h + 0.5), int(new_w + 0.5)


@pytest.mark.parametrize("side", [32, 512, 1024])
def test_square_is_the_published_resize(side):
    transform = Transform(side, "square", filter="bilinear")
    for size in [(480, 640), (640, 480), (200, 200), (100, 70), (37, 41), (1001, 999)]:
        assert transform.output_size(*size) == (side, side)
        assert transform.picture_size(*size) == published_square(*size, side)
        assert transform.decode_size(*size) == transform.picture_size(*size)
    image = smooth(150, 220)
    high, wide = transform.picture_size(150, 220)
    expected = image.resize((wide, high), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(transform(image), np.asarray(expected).transpose(2, 0, 1))


def test_square_without_a_resolution_holds_the_picture():
    transform = Transform(None, "square")
    assert transform.output_size(300, 401) == (416, 416)
    assert transform.picture_size(300, 401) == (311, 416)
    assert transform.output_size(64, 32) == (64, 64)


def test_a_square_has_a_side_whatever_the_limit():
    transform = Transform(None, "square", at_most=31)
    assert transform.output_size(40, 50) == (32, 32)
    assert transform.picture_size(40, 50) == (26, 32)


def test_a_strip_in_a_square_keeps_a_pixel():
    transform = Transform(64, "square")
    assert transform.picture_size(1, 5000) == (1, 64)
    assert transform(smooth(1, 5000)).shape == (3, 1, 64)


@pytest.mark.parametrize("resolution", [16, 100, 1000])
def test_a_square_is_a_multiple_of_32(resolution):
    with pytest.raises(ValueError, match=f"must be a multiple of 32, not {resolution}"):
        Transform(resolution, "square")


def test_the_picture_is_the_whole_input_where_nothing_is_padded():
    for transform in (Transform(224), Transform(224, "contain")):
        assert transform.picture_size(300, 409) == transform.output_size(300, 409)


def test_padding_is_zero_after_normalising():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = torch.randint(256, (3, 20, 30), dtype=torch.uint8)
    padded = pad_normalised(pixels, (64, 96), mean, std)
    assert padded.shape == (3, 64, 96)
    assert padded.dtype == torch.float32
    expected = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(padded[:, :20, :30], expected)
    assert not padded[:, 20:].any()
    assert not padded[:, :, 30:].any()

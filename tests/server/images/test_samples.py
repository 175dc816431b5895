import numpy as np
import pytest

from vimserve.model.samples import SampleRange
from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.samples import SURVEYED, SampleType, Scale, choose_scale, grid_step

DTYPE = SampleRange()


@pytest.mark.parametrize(
    ("kind", "bits", "limits"),
    [
        ("u", 1, (0, 1)), ("u", 12, (0, 4095)), ("u", 64, (0, 2.0**64 - 1)),
        ("i", 12, (-2048, 2047)), ("i", 64, (-(2.0**63), 2.0**63 - 1)), ("f", 32, (0, 1)),
    ],
)  # fmt: skip
def test_what_a_type_can_hold_becomes_black_and_white(kind, bits, limits):
    samples = SampleType(kind, bits)
    scale = choose_scale(DTYPE, samples, [np.array([0.5], samples.dtype)])
    assert (scale.low, scale.high) == limits
    if bits < 64:
        assert scale(np.array(limits, samples.dtype)).tolist() == [0, 255]


def test_values_are_rounded_and_clipped():
    scale = Scale(SampleType("u", 16), 100, 355)
    values = np.array([0, 100, 101, 354, 355, 65535], np.uint16)
    assert scale(values).tolist() == [0, 0, 1, 254, 255, 255]
    wide = Scale(SampleType("f", 64), -1e308, 1e308)
    assert wide(np.array([-np.inf, -1e308, 0, 1e308, np.inf])).tolist() == [0, 0, 128, 255, 255]


def test_what_is_no_number_is_black():
    scale = Scale(SampleType("f", 32), -1, 1)
    assert scale(np.array([np.nan, 1], np.float32)).tolist() == [0, 255]


def test_percentiles_are_those_of_the_picture():
    samples = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    wanted = SampleRange("percentiles", 2, 98)
    scale = choose_scale(wanted, SampleType("u", 16), [samples[:3], samples[3:]])
    assert (scale.low, scale.high) == (20, 980)
    floats = np.array([np.nan, np.inf, 0, 10], np.float32)
    scale = choose_scale(SampleRange("percentiles", 0, 100), SampleType("f", 32), [floats])
    assert (scale.low, scale.high) == (0, 10)


@pytest.mark.parametrize("samples", [[7, 7, 7], [np.nan, np.nan, np.nan]])
def test_a_picture_of_one_value_is_black(samples):
    block = np.array(samples, np.float32)
    scale = choose_scale(SampleRange("percentiles", 2, 98), SampleType("f", 32), [block])
    assert not scale(block).any()


def test_floats_outside_of_0_to_1_need_a_range():
    with pytest.raises(UnsupportedImage, match=r"from -5 to 300\b.*range=LOW,HIGH") as caught:
        choose_scale(DTYPE, SampleType("f", 32), [np.array([0.5, -5, np.nan]), np.array([300.0])])
    assert caught.value.parameter == "range"
    scale = choose_scale(SampleRange("values", 0, 300), SampleType("f", 32), [])
    assert (scale.low, scale.high) == (0, 300)


def test_8_bits_keep_their_own_range():
    for wanted in (SampleRange("values", 0, 4095), SampleRange("percentiles", 2, 98)):
        scale = choose_scale(wanted, SampleType("u", 8), [])
        assert scale(np.arange(256, dtype=np.uint8)).tolist() == list(range(256))


@pytest.mark.parametrize("pixels", [1, SURVEYED, SURVEYED + 1, 10**7, 50 * 10**6])
def test_about_so_many_pixels_are_surveyed(pixels):
    step = grid_step(pixels)
    assert pixels // step**2 <= SURVEYED
    assert step == 1 or pixels / (step - 1) ** 2 > SURVEYED / 1.01

import pytest
import torch

from tests.closeness import assert_close
from tests.kernels.upsampling import CASES, SHAPES, convolved, draw, draw_case, products
from vimserve.kernels.upsample_add import cpu, naive, upsample_add

INPUTS = 12


@pytest.mark.parametrize("operation", [naive.upsample_add, cpu.upsample_add])
@pytest.mark.parametrize(("shape", "K"), CASES)
def test_adds_what_convolutions_of_upsampled_images_give(operation, shape, K) -> None:
    N, size, C, sizes = shape
    torch.manual_seed(C + K)
    x, bias = draw(N, *size, C), draw(C)
    images = [draw(N, *of, INPUTS) for of in sizes]
    weights = [draw(C, INPUTS, K, K) * (K * K * INPUTS) ** -0.5 for _ in sizes]
    pairs = list(zip(images, weights, strict=True))
    expected = x + bias + sum(convolved(*pair, size) for pair in pairs)

    maps = [products(*pair) for pair in pairs]
    for relu in (False, True):
        actual = x.clone()
        operation(actual, maps, bias, relu=relu)
        assert_close("sums", actual, expected.relu() if relu else expected, atol=1e-5)


@pytest.mark.parametrize(("shape", "K"), CASES)
def test_cpu_matches_reference_without_bias(shape, K) -> None:
    x, maps, _ = draw_case(shape, K, torch.float32)
    expected = x.clone()
    naive.upsample_add(expected, maps, None, relu=False)

    cpu.upsample_add(x, maps, None, relu=False)
    assert_close("sums", x, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype) -> None:
    x, maps, bias = draw_case(SHAPES[2], 3, dtype)
    expected = x.float()
    upsample_add(expected, [m.float() for m in maps], bias.float(), relu=True)

    assert torch.equal(upsample_add(x, maps, bias, relu=True), expected.to(dtype))


def test_a_slice_of_the_channels_leaves_the_others_and_any_map_may_be_strided() -> None:
    x, maps, bias = draw_case(SHAPES[2], 3, torch.float32)
    wide = torch.cat((x, x, x), dim=3)
    C = x.shape[3]
    expected = upsample_add(x.clone(), maps, bias)

    strided = [m.transpose(1, 2).contiguous().transpose(1, 2) for m in maps]
    result = upsample_add(wide[..., C : 2 * C], strided, bias)
    assert torch.equal(result, expected)
    assert torch.equal(wide, torch.cat((x, expected, x), dim=3))


def test_what_is_no_number_stays_visible() -> None:
    x, maps, bias = draw_case(SHAPES[0], 3, torch.float32)
    x[0, 3, 5, 7] = torch.nan

    assert upsample_add(x, maps, bias, relu=True)[0, 3, 5, 7].isnan()


X = torch.zeros(1, 4, 4, 2)
MAP = torch.zeros(1, 2, 2, 9, 2)


@pytest.mark.parametrize(
    ("x", "maps", "bias", "message"),
    [
        (X[0], [MAP], None, r"x must be \[N, H, W, C\].*not \[4, 4, 2\]"),
        (X[:, :0], [MAP], None, r"at least one position and channel, not \[1, 0, 4, 2\]"),
        (X.double(), [MAP], None, "x must be .*not torch.float64"),
        (X.transpose(2, 3), [torch.zeros(1, 2, 2, 9, 4)], None, "x must have contiguous rows"),
        (X, [], None, "maps must hold at least one tensor"),
        (X, [MAP[0]], None, r"maps\[0\] must be \[N, h, w, K², C\].*not \[2, 2, 9, 2\]"),
        (X, [MAP, MAP[:, :0]], None, r"maps\[1\] must .*at least one position"),
        (X, [MAP[:, :, :, :4]], None, "maps must have 1 or 9 taps, not 4"),
        (X, [MAP, MAP[:, :, :, :1]], None, r"maps\[1\] must be .*= \[1, 2, 2, 9, 2\]"),
        (X, [MAP[..., :1]], None, r"maps\[0\] must be .*= \[1, 2, 2, 9, 2\], not \[1, 2, 2, 9, 1"),
        (X, [MAP], torch.zeros(3), r"bias must be \[C\] = \[2\], not \[3\]"),
    ],
)
def test_what_is_refused(x, maps, bias, message) -> None:
    with pytest.raises(ValueError, match=message):
        upsample_add(x, maps, bias)

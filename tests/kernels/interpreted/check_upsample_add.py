import pytest
import torch

from tests.closeness import assert_close
from tests.kernels.upsampling import CASES, SHAPES, draw_case
from vimserve.kernels.upsample_add import naive, triton


@pytest.mark.parametrize(("shape", "K"), CASES)
def test_matches_reference(shape, K) -> None:
    x, maps, bias = draw_case(shape, K, torch.float32)
    of = bias if K == 3 else None
    expected, actual = x.clone(), x.clone()
    naive.upsample_add(expected, maps, of, relu=K == 3)
    triton.upsample_add(actual, maps, of, relu=K == 3)
    assert_close("sums", actual, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype) -> None:
    x, maps, bias = draw_case(SHAPES[1], 3, dtype)
    exact = x.float()
    naive.upsample_add(exact, [m.float() for m in maps], bias.float(), relu=True)

    triton.upsample_add(x, maps, bias, relu=True)
    step = torch.finfo(dtype).eps * exact.abs().max().item()  # the interpreter rounds to zero
    assert_close("sums", x.float(), exact, atol=step)


def test_a_slice_of_the_channels_and_more_maps_than_a_launch_takes() -> None:
    x, maps, bias = draw_case(SHAPES[3], 3, torch.float32)
    wide, maps, C = torch.cat((x, x), dim=3), maps * 3, x.shape[3]
    expected = x.clone()
    naive.upsample_add(expected, maps, bias, relu=True)

    triton.upsample_add(wide[..., C:], maps, bias, relu=True)
    assert_close("sums", wide[..., C:], expected, atol=1e-5)
    assert torch.equal(wide[..., :C], x)

import pytest
import torch
from torch import Tensor

from vimserve.kernels.cut_rgbx import PATCH, has_cut_rgbx
from vimserve.kernels.cut_rgbx.cpu import cut_rgbx


def pixels(height: int, width: int) -> Tensor:
    """``[H, W, 4]``, as Pillow holds them."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (height, width, 4), dtype=torch.uint8, generator=generator)


def channels(pixels: Tensor) -> Tensor:
    return pixels[..., :3].permute(2, 0, 1)


@pytest.mark.parametrize("stride", [16, 8])
@pytest.mark.parametrize("size", [(16, 16), (16, 64), (48, 16), (80, 112)])
def test_patches_are_those_of_unfold(size: tuple[int, int], stride: int) -> None:
    whole = channels(pixels(*size))
    window = channels(pixels(size[0] + 24, size[1] + 40))[:, 8 : 8 + size[0], 24 : 24 + size[1]]
    for image in (whole, window):
        assert has_cut_rgbx(image, PATCH)
        tiles = image.unfold(1, PATCH, stride).unfold(2, PATCH, stride)
        expected = tiles.permute(1, 2, 0, 3, 4).reshape(-1, 3 * PATCH * PATCH)
        assert torch.equal(cut_rgbx(image, stride), expected)


def test_what_lies_otherwise_is_not_for_it() -> None:
    four = pixels(32, 48)
    assert has_cut_rgbx(channels(four), PATCH)
    assert not has_cut_rgbx(channels(four), 8)
    assert not has_cut_rgbx(channels(four).contiguous(), PATCH)
    assert not has_cut_rgbx(channels(four).float(), PATCH)
    assert not has_cut_rgbx(channels(four[..., :3].contiguous()), PATCH)
    assert not has_cut_rgbx(channels(four).flip(0), PATCH)


def test_memory_that_ends_with_the_last_blue_is_not_read_beyond() -> None:
    four = pixels(32, 48)
    cut_short = torch.as_strided(four.flatten()[:-1].clone(), (32, 48, 3), (4 * 48, 4, 1))
    assert not has_cut_rgbx(cut_short.permute(2, 0, 1), PATCH)
    assert has_cut_rgbx(cut_short.permute(2, 0, 1)[:, :16], PATCH)
    assert not has_cut_rgbx(four[..., 1:].permute(2, 0, 1), PATCH)


def test_other_kernels_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIMSERVE_KERNELS", "naive")
    assert not has_cut_rgbx(channels(pixels(32, 32)), PATCH)

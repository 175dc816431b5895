"""The grids of all launches for the largest batches, against CUDA's limits; no launch runs.

The operands are on PyTorch's meta device, which has their shapes but no memory.
"""

from collections.abc import Callable
from math import prod
from unittest import mock

import pytest
import torch
from torch import Tensor
from triton.runtime.jit import JITFunction

from vimserve.kernels import triton_config
from vimserve.kernels.add_norm.triton import add_norm
from vimserve.kernels.conv1d.triton import conv1d
from vimserve.kernels.nms.triton import nms
from vimserve.kernels.paste_masks.triton import paste_masks
from vimserve.kernels.roi_align.triton import roi_align
from vimserve.kernels.selective_scan import triton
from vimserve.kernels.selective_scan.triton import selective_scan
from vimserve.kernels.upsample_add.triton import upsample_add
from vimserve.kernels.upsample_argmax.triton import upsample_argmax
from vimserve.server.config import ServerConfig

MOST_PROGRAMS = (2**31 - 1, 65_535, 65_535)  # CUDA C++ Programming Guide, compute capabilities

K, S = 2, 16
WIDTHS = (192, 384, 768)  # Vim-Ti, Vim-S, Vim-B
# A server may be told to allow any number of tokens in a batch. These take 400 GB even in Vim-Ti:
# its projection, convolution and scan each write 1.5 kB a token in bfloat16, its norms the rest.
MOST_TOKENS = 2**26
SHORTEST = 2  # tokens of an image of one patch
BATCHES = {
    "smallest images": (MOST_TOKENS, MOST_TOKENS // SHORTEST),
    "one image": (MOST_TOKENS, 1),
    "many images, few enough to be chunked": (MOST_TOKENS, 64),
}
MOST_PIXELS = ServerConfig.model_fields["max_pixels"].default
MAPS = {"tall": (MOST_PIXELS, 1), "wide": (1, MOST_PIXELS), "square": (7071, 7071)}


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def launched(function: Callable[[], object]) -> dict[str, tuple[int, ...]]:
    """The grid of every kernel that ``function`` launches, by the kernel's name."""
    grids: dict[str, tuple[int, ...]] = {}

    def record(kernel: JITFunction, *_: object, grid: tuple[int, ...], **__: object) -> None:
        grids[kernel.__name__] = grid

    with (
        mock.patch.object(JITFunction, "run", record),
        mock.patch.object(triton_config, "_multiprocessors", return_value=132),
    ):
        function()
    return grids


def assert_within_limits(grids: dict[str, tuple[int, ...]]) -> None:
    for name, grid in grids.items():
        for axis, programs in enumerate(grid):
            assert 1 <= programs <= MOST_PROGRAMS[axis], f"{name} has the grid {grid}"


def boundaries(N: int) -> Tensor:
    return empty(N + 1, dtype=torch.int32)


def scan(T: int, N: int, D: int) -> None:
    E, R = 2 * D, D // 16
    dt, B, C = empty(K, T, R + 2 * S, dtype=torch.float32).split([R, S, S], 2)
    selective_scan(
        empty(K, T, E), dt, empty(K, E, R), empty(K, E), empty(K, E, S), B, C, empty(K, E),
        empty(T, 2 * E)[:, E:], boundaries(N), (False, True), side_by_side=True,
        max_seqlen=-(-T // N),
    )  # fmt: skip


@pytest.mark.parametrize("D", WIDTHS)
@pytest.mark.parametrize(("T", "N"), BATCHES.values(), ids=BATCHES)
def test_scan_of_whole_sequences(monkeypatch: pytest.MonkeyPatch, T: int, N: int, D: int) -> None:
    monkeypatch.setattr(triton, "chunk_tokens", lambda *_: 0)
    grids = launched(lambda: scan(T, N, D))
    assert prod(grids["walk_outputs"]) >= K * N
    assert_within_limits(grids)


@pytest.mark.parametrize(("T", "N"), BATCHES.values(), ids=BATCHES)
def test_scan_of_the_shortest_chunks(monkeypatch: pytest.MonkeyPatch, T: int, N: int) -> None:
    monkeypatch.setattr(triton, "chunk_tokens", lambda *_: triton_config.MIN_CHUNK)
    grids = launched(lambda: scan(T, N, 192))
    assert prod(grids["walk_outputs"]) >= K * T // triton_config.MIN_CHUNK
    assert_within_limits(grids)


def test_scan_of_chunks_launches_all_of_its_kernels() -> None:
    assert set(launched(lambda: scan(2**16, 1, 192))) == {
        "walk_states",
        "carry",
        "walk_outputs",
    }


@pytest.mark.parametrize("E", [16, *(2 * D for D in WIDTHS)])
@pytest.mark.parametrize(("T", "N"), BATCHES.values(), ids=BATCHES)
def test_convolution(T: int, N: int, E: int) -> None:
    grids = launched(
        lambda: conv1d(empty(T, E), empty(K, E, 4), empty(K, E), boundaries(N), (False, True))
    )
    tokens, channels = triton_config.conv_block(E)
    assert prod(grids["_convolve"]) * tokens * channels >= T * E
    assert_within_limits(grids)


@pytest.mark.parametrize("D", WIDTHS)
def test_norm(D: int) -> None:
    grids = launched(lambda: add_norm(empty(MOST_TOKENS, D), None, empty(D)))
    assert prod(grids["_add_norm"]) * triton_config.norm_block(D)[0] >= MOST_TOKENS
    assert_within_limits(grids)


@pytest.mark.parametrize("size", MAPS.values(), ids=MAPS)
def test_class_map(size: tuple[int, int]) -> None:
    grids = launched(lambda: upsample_argmax(empty(150, 64, 64), size, probability=True))
    assert_within_limits(grids)
    assert list(grids) == ["_upsample_argmax"]


@pytest.mark.parametrize("size", MAPS.values(), ids=MAPS)
def test_upsampled_maps(size: tuple[int, int]) -> None:
    x, maps = empty(1, *size, 384), [empty(1, 64, 64, 9, 64)] * 3
    grids = launched(lambda: upsample_add(x[..., :64], maps, empty(64), relu=True))
    assert_within_limits(grids)
    assert list(grids) == ["_upsample_add"]


@pytest.mark.parametrize("size", [7, 14])
def test_regions(size: int) -> None:
    R, maps, places = 2**20, [empty(64, 256)] * 4, empty(4, 1, 3, dtype=torch.int32)
    boxes, of = empty(R, 4, dtype=torch.float32), empty(R, dtype=torch.int32)
    grids = launched(lambda: roi_align(maps, places, [4, 8, 16, 32], boxes, of, of, size))
    assert_within_limits(grids)
    assert list(grids) == ["_roi_align"]


def test_groups_of_boxes() -> None:
    grids = launched(lambda: nms(empty(1000, 4), empty(2**20, 100, dtype=torch.int32), 0.5))
    assert grids == {"_nms": (2**20,)}
    assert_within_limits(grids)


@pytest.mark.parametrize("size", [(1, 10**6), (10**6, 1)])
def test_masks_in_a_large_picture(size: tuple[int, int]) -> None:
    """In host memory, because the total of the counts is read: zeros here."""
    masks, boxes = torch.zeros(4, 28, 28), torch.zeros(4, 4)
    grids = launched(lambda: paste_masks(masks, boxes, size, 0.5))
    assert grids == {"_paste_masks": (4 * -(-size[1] // 128),)}
    assert_within_limits(grids)

"""Attention within every sequence of a packed batch."""

import functools
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.deit.relative import (
    eager_relative_attention,
    fused_relative_attention,
)
from vimserve.model.families.deit.windows import Windows
from vimserve.model.layout import Grid, Layout
from vimserve.model.linear import Linear

# What PyTorch's flash attention takes (mha_varlen_fwd in aten/src/ATen/native/transformers/cuda/
# flash_attn/flash_api.cpp, the same in 2.11 and 2.13).
FLASH_DTYPES = (torch.float16, torch.bfloat16)
FLASH_OLDEST_GPU = (8, 0)
FLASH_WIDEST_HEAD = 256
FLASH_HEAD_MULTIPLE = 8

# Parts of the names of kernels, by the implementation that they belong to. The first that is found
# counts: cuDNN's names have "flash" in them as well.
KERNELS = {
    "cudnn": ("native_sdpa",),  # cudnn_generated_fort_native_sdpa_sm90_flash_fprop_…
    "flash": ("flash_fwd",),  # pytorch_flash::flash_fwd_kernel<…>
    "efficient": ("fmha_cutlass", "AttentionKernel"),  # fmha_cutlassF_bf16_aligned_…
    "eager": ("softmax",),  # softmax_warp_forward<…>, cunn_SoftMaxForward<…>
}


class Attention(nn.Module):
    """Multi-head self-attention within every sequence, or within the windows of every image.

    Sequences of one length go through one call that PyTorch has several implementations of; on a
    Hopper in half precision that is cuDNN's. So do all windows of a batch. Sequences of different
    lengths go through flash attention over packed sequences where there is one, and else through
    one call for each length, or with relative positions for each grid.

    Args:
        config: of the model.
        window: side of the windows in tokens; 0 for none.
    """

    def __init__(self, config: DeiTConfig, window: int = 0) -> None:
        super().__init__()
        self.qkv = Linear(config.width, 3 * config.width)
        self.proj = Linear(config.width, config.width)
        self.window = window
        self._heads = config.heads
        self._fused = config.attention == "fused"
        self._relative = config.rel_pos is not None
        if config.rel_pos is not None:
            rows, cols = (window, window) if window else config.rel_pos
            head = config.width // config.heads
            self.rel_pos_h = nn.Parameter(0.02 * torch.randn(2 * rows - 1, head))
            self.rel_pos_w = nn.Parameter(0.02 * torch.randn(2 * cols - 1, head))

    def forward(self, tokens: Tensor, layout: Layout, windows: Windows | None = None) -> Tensor:
        """Packed tokens ``[T, D]`` to the same; ``windows`` of the layout if there are any."""
        if windows is not None:
            return self.proj(self._within(windows, tokens))
        qkv = self.qkv(tokens)
        groups = layout.grid_groups if self._relative else layout.groups
        if layout.common_length is not None and len(groups) == 1:
            together = qkv.unflatten(0, (-1, layout.common_length))
            return self.proj(self._mix(together, *layout.grids[:1]).flatten(0, 1))
        if self.packs:
            return self.proj(packed_attention(qkv, self._heads, layout))
        sequences = list(qkv.split(layout.lengths))
        for group in groups:
            together = torch.stack([sequences[i] for i in group])
            for i, mixed in zip(group, self._mix(together, layout.grids[group[0]]), strict=True):
                sequences[i] = mixed
        return self.proj(torch.cat(sequences))

    @property
    def packs(self) -> bool:
        """Whether the lengths are read on the device, so that a graph holds any of them."""
        weight = self.qkv.weight
        return (
            self._fused
            and not (self._relative or self.window)
            and has_packed_attention(weight.device, weight.dtype, weight.shape[1] // self._heads)
        )

    def _within(self, windows: Windows, tokens: Tensor) -> Tensor:
        """What each token reads of those in its window, ``[T, D]``.

        Where a window reaches beyond its image there are tokens of zeros, as in ViTDet. They are
        keys too: the biases.
        """
        qkv = self.qkv(F.pad(tokens, (0, 0, 0, 1))).index_select(0, windows.sources)
        side = windows.side
        mixed = self._mix(qkv.unflatten(0, (-1, side * side)), (side, side))
        return mixed.flatten(0, 1).index_select(0, windows.places)

    def _mix(self, qkv: Tensor, grid: Grid | None = None) -> Tensor:
        """N sequences of one length L, ``[N, L, 3 * D]`` to ``[N, L, D]``.

        ``grid`` is how their tokens lie, which relative positions depend on.
        """
        q, k, v = qkv.unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        if not self._relative:
            attend = fused_attention if self._fused else eager_attention
            mixed = attend(q, k, v)
        else:
            assert grid is not None
            attend_at = fused_relative_attention if self._fused else eager_relative_attention
            mixed = attend_at(q, k, v, (self.rel_pos_h, self.rel_pos_w), grid)
        return mixed.transpose(1, 2).flatten(2)


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``[N, H, L, D / H]`` each to the same, in blocks: the ``[L, L]`` scores never exist."""
    return F.scaled_dot_product_attention(q, k, v)


def eager_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``[N, H, L, D / H]`` each to the same, by scores ``[N, H, L, L]`` that are written out."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return scores.softmax(-1) @ v


def packed_attention(qkv: Tensor, heads: int, layout: Layout) -> Tensor:
    """``[T, 3 * D]`` to ``[T, D]`` by flash attention, which reads the lengths on the device.

    The result of a sequence that is longer than ``layout.longest`` is undefined.
    """
    # Here, because the import takes long and only a GPU needs it.
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = qkv.unflatten(1, (3, heads, -1)).unbind(1)
    bounds, longest = layout.cu_seqlens, layout.longest
    mixed = varlen_attn(q, k, v, bounds, bounds, longest, longest)
    assert isinstance(mixed, Tensor)  # a pair only if more was asked for
    return mixed.flatten(1)


def has_packed_attention(device: torch.device, dtype: torch.dtype, head: int) -> bool:
    """Whether ``packed_attention`` runs there, with heads of so many channels."""
    return (
        device.type == "cuda"
        and dtype in FLASH_DTYPES
        and head <= FLASH_WIDEST_HEAD
        and head % FLASH_HEAD_MULTIPLE == 0
        and _has_flash(device)
    )


def which_attention(kernels: Iterable[str]) -> set[str]:
    """The implementations of attention that a profiler saw, by the names of the kernels.

    Returns:
        Some of ``cudnn`` and ``flash``, which are both flash attention, ``efficient``, and
        ``eager``, which writes the scores out.
    """
    found = set()
    for name in kernels:
        for implementation, parts in KERNELS.items():
            if any(part.lower() in name.lower() for part in parts):
                found.add(implementation)
                break
    return found


@functools.cache
def _has_flash(device: torch.device) -> bool:
    built = torch.backends.cuda.is_flash_attention_available()
    return built and torch.cuda.get_device_capability(device) >= FLASH_OLDEST_GPU

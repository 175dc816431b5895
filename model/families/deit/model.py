"""DeiT (arXiv 2012.12877) over packed batches of images of any sizes: Vim's baseline."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import COMMON_SIDES, EqualBucket, make_equal_buckets
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.layout import Layout
from vimserve.model.linear import Linear
from vimserve.model.packed import PackedModel, normal

NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention within every sequence."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.qkv = Linear(config.width, 3 * config.width)
        self.proj = Linear(config.width, config.width)
        self._heads = config.heads
        self._attend = fused_attention if config.attention == "fused" else eager_attention

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Packed tokens ``[T, D]`` to the same."""
        qkv = self.qkv(tokens)
        if len(layout.groups) == 1:
            mixed = self._mix(qkv.unflatten(0, (len(layout.lengths), -1))).flatten(0, 1)
            return self.proj(mixed)
        sequences = list(qkv.split(layout.lengths))
        for group in layout.groups:
            together = self._mix(torch.stack([sequences[i] for i in group]))
            for i, mixed in zip(group, together, strict=True):
                sequences[i] = mixed
        return self.proj(torch.cat(sequences))

    def _mix(self, qkv: Tensor) -> Tensor:
        """N sequences of one length L, ``[N, L, 3 * D]`` to ``[N, L, D]``."""
        q, k, v = qkv.unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        return self._attend(q, k, v).transpose(1, 2).flatten(2)


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``[N, H, L, D / H]`` each to the same, in blocks: the ``[L, L]`` scores never exist."""
    return F.scaled_dot_product_attention(q, k, v)


def eager_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``[N, H, L, D / H]`` each to the same, by scores ``[N, H, L, L]`` that are written out."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return scores.softmax(-1) @ v


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.width, config.mlp_ratio * config.width, "gelu")
        self.fc2 = Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[T, D]`` to ``[T, D]``."""
        return self.fc2(self.fc1(tokens))


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a residual."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, NORM_EPS)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, NORM_EPS)
        self.mlp = Mlp(config)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Packed tokens ``[T, D]`` to the same."""
        hidden = self.attn(self.norm1(hidden), layout).add_(hidden)
        return self.mlp(self.norm2(hidden)).add_(hidden)


class DeiT(PackedModel):
    """A DeiT classifier without distillation token, forward only.

    Modules and parameters carry timm's names, so a published state dict loads with
    ``load_state_dict(strict=True)``. All but the attention runs over the packed tokens of all
    images; attention runs once for all images of equal length.
    """

    antialias = True
    graphs_need_kernels = False

    config: DeiTConfig

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__(config)
        self.cls_token = nn.Parameter(normal(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, NORM_EPS)
        D, classes = config.width, config.num_classes
        self.head = Linear(D, classes) if classes else nn.Identity()

    @torch.inference_mode()
    def forward_features(self, batch: PackedBatch, out_indices: Sequence[int]) -> list[Tensor]:
        """The tokens ``[T, D]``, class tokens included, after the blocks ``out_indices``."""
        blocks = enumerate(self.run_blocks(*self.embed(batch)))
        return [hidden for i, hidden in blocks if i in out_indices]

    def classify(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Class scores ``[N, classes]`` of N embedded sequences ``[T, D]``."""
        hidden = deque(self.run_blocks(tokens, layout), maxlen=1).pop()
        return self.head(self.norm(hidden.index_select(0, layout.class_rows.flatten())))

    def run_blocks(self, tokens: Tensor, layout: Layout) -> Iterator[Tensor]:
        """Yield the tokens ``[T, D]`` after each block."""
        for block in self.blocks:
            tokens = block(tokens, layout)
            yield tokens

    def graph_buckets(self, max_tokens: int) -> list[EqualBucket]:
        """As ``PackedModel.graph_buckets``, for images of one common size."""
        sides = {self.config.trained_size[0], *COMMON_SIDES}
        rows = [side // self.config.patch_size for side in sides]
        return make_equal_buckets([self.num_tokens((n, n)) for n in rows], max_tokens)

"""DeiT (arXiv 2012.12877) over packed batches of images of any sizes: Vim's baseline."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vimserve.model.buckets import (
    COMMON_SIDES,
    AnyBucket,
    Bucket,
    make_buckets,
    make_equal_buckets,
)
from vimserve.model.families.deit.attention import Attention
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.deit.windows import Windows
from vimserve.model.layout import Layout
from vimserve.model.linear import Linear
from vimserve.model.packed import PackedModel, check_recordable, normal
from vimserve.model.threads import each_block

NORM_EPS = 1e-6

# Images of different sizes are recorded up to so many tokens; what holds more keeps a GPU busy for
# longer than launching its kernels takes.
MIXED_TOKENS = 16_384
MIXED_LONGEST = (264, 1088)  # bounds between which buckets do not tell the longest image apart
BLOCKS_PER_IMAGE = 32


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

    def __init__(self, config: DeiTConfig, window: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, NORM_EPS)
        self.attn = Attention(config, window)
        self.norm2 = nn.LayerNorm(config.width, NORM_EPS)
        self.mlp = Mlp(config)

    def forward(self, hidden: Tensor, layout: Layout, windows: Windows | None) -> Tensor:
        """Packed tokens ``[T, D]`` to the same; ``windows`` of the layout are of all blocks."""
        own = windows if self.attn.window else None
        hidden = self.attn(self.norm1(hidden), layout, own).add_(hidden)
        return self.mlp(self.norm2(hidden)).add_(hidden)


class DeiT(PackedModel):
    """A DeiT classifier without distillation token, or the backbone of a detector; forward only.

    Modules and parameters carry timm's names, so a published state dict loads with
    ``load_state_dict(strict=True)``, and without class token those of ViTDet's backbones. All but
    the attention runs over the packed tokens of all images, and so does the attention where there
    is one for packed sequences; elsewhere it runs once for all images of equal length.
    """

    final_norm = "norm"
    graphs_need_kernels = False

    config: DeiTConfig

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__(config)
        D, classes = config.width, config.num_classes
        self.blocks = nn.ModuleList(Block(config, config.window_of(i)) for i in range(config.depth))
        if config.class_token:
            self.cls_token = nn.Parameter(normal(1, 1, D))
        self.norm = nn.LayerNorm(D, NORM_EPS)
        self.head = Linear(config.features, classes) if classes else nn.Identity()

    @property
    def antialias(self) -> bool:
        """Timm resizes position embeddings with a wider filter when they shrink, ViTDet does not.

        Without class token they are resized as ViTDet does it.
        """
        return self.config.class_token

    def features(self, tokens: Tensor, layout: Layout, out_indices: Sequence[int]) -> list[Tensor]:
        """The tokens ``[T, D]`` after the blocks ``out_indices``."""
        blocks = enumerate(self.run_blocks(tokens, layout))
        return [hidden for i, hidden in blocks if i in out_indices]

    def last_features(self, tokens: Tensor, layout: Layout) -> Tensor:
        """The tokens ``[T, D]`` after the last block, not normalised."""
        return deque(self.run_blocks(tokens, layout), maxlen=1).pop()

    def classify(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Class scores ``[N, classes]`` of N embedded sequences ``[T, D]``."""
        hidden, readout = self.last_features(tokens, layout), self.config.readout
        parts = []
        if readout != "mean":
            parts.append(self.norm(hidden.index_select(0, layout.class_rows.flatten())))
        if readout != "class":
            parts.append(self.patch_means(self.norm(hidden), layout))
        return self.head(torch.cat(parts, 1))

    def run_blocks(self, tokens: Tensor, layout: Layout) -> Iterator[Tensor]:
        """Yield the tokens ``[T, D]`` after each block."""
        side = self.config.window
        windows = Windows.of(layout.grids, side, tokens.device) if side else None
        for block in each_block(self.blocks):
            tokens = block(tokens, layout, windows)
            yield tokens

    def split_positions(self) -> tuple[Tensor, Tensor]:
        """As ``PackedModel.split_positions``; the row of a class token that is not there is none.

        Returns:
            ``[rows * columns, D]`` and ``[c, D]``.
        """
        patches, class_tokens = super().split_positions()
        left = self.config.class_position and not self.config.class_token
        return patches[left:], class_tokens

    def graph_buckets(self, max_tokens: int) -> list[AnyBucket]:
        """As ``PackedModel.graph_buckets``: images of one common size, and any where possible.

        Raises:
            ValueError: with windows or relative positions, which need more than a number of tokens.
        """
        check_recordable(self.config)
        if self.config.window or self.config.rel_pos is not None:
            raise ValueError("windows and relative positions of a DeiT depend on the image's sides")
        sides = {self.config.trained_size[0], *COMMON_SIDES}
        rows = [side // self.config.patch_size for side in sides]
        lengths = [self.num_tokens((n, n)) for n in rows]
        buckets: list[AnyBucket] = [*make_equal_buckets(lengths, max_tokens)]
        if all(attention.packs for attention in self.modules() if isinstance(attention, Attention)):
            buckets += make_mixed_buckets(min(max_tokens, MIXED_TOKENS))
        return sorted(buckets, key=lambda bucket: bucket.tokens)


def make_mixed_buckets(max_tokens: int) -> list[Bucket]:
    """Ascending buckets for images of different sizes, by flash attention over packed sequences.

    It launches a block for each 128 tokens of the longest image, for every sequence: buckets for
    long images hold few, so that not many blocks find nothing to do.
    """
    kinds = make_buckets(max_tokens, lambda bucket: bisect_left(MIXED_LONGEST, bucket.longest))
    return [replace(b, per_image=max(b.per_image, b.longest // BLOCKS_PER_IMAGE)) for b in kinds]

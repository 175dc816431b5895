"""Vision Mamba (arXiv 2401.09417) over packed batches of images of any sizes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vimserve.kernels.add_norm import Turn, add_norm
from vimserve.kernels.dispatch import activation_dtype
from vimserve.kernels.triton_config import chunk_tokens
from vimserve.kernels.vim_blocks import has_vim_blocks
from vimserve.model.buckets import Bucket, make_buckets
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.mixer import Mixer
from vimserve.model.families.vim.rope import Rotary
from vimserve.model.layout import Grid, Layout
from vimserve.model.packed import PackedModel, check_recordable, normal
from vimserve.model.threads import each_block, follow_limit

if TYPE_CHECKING:
    from vimserve.kernels.vim_blocks.cpu import VimBlocks

NORM_EPS = 1e-5
# They read the same number of tokens of every image, which fixes the shapes in a graph.
RECORDABLE_POOLINGS = ("middle", "head", "double", "registers", "last")


class Norm(nn.Module):
    """The weight of an RMSNorm; ``add_norm`` applies it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class Block(nn.Module):
    """Residual add, RMSNorm, mixer."""

    def __init__(self, config: VimConfig, *, reverse: bool = False) -> None:
        super().__init__()
        self.norm = Norm(config.width)
        self.mixer = Mixer(config, reverse=reverse)

    def forward(
        self, hidden: Tensor, residual: Tensor | None, layout: Layout, turn: Turn | None = None
    ) -> tuple[Tensor, Tensor]:
        """``[T, D]`` hidden and float32 residual to the same; the residual is overwritten."""
        weight = self.norm.weight
        normed, residual = add_norm(hidden, residual, weight, NORM_EPS, turn)
        return self.mixer(normed.to(weight.dtype), layout), residual


class Vim(PackedModel):
    """A Vision Mamba classifier, forward only.

    Modules and parameters carry the published names, so a published state dict loads with
    ``load_state_dict(strict=True)``.
    """

    final_norm = "norm_f"
    graphs_need_kernels = True

    config: VimConfig

    def __init__(self, config: VimConfig) -> None:
        super().__init__(config)
        D = config.width
        if config.pooling == "double":
            self.cls_token_head = nn.Parameter(normal(1, 1, D))
            self.cls_token_tail = nn.Parameter(normal(1, 1, D))
        elif config.class_tokens:
            self.cls_token = nn.Parameter(normal(1, config.class_tokens, D))
        if config.registers:
            self.pos_embed_cls = nn.Parameter(normal(1, config.registers, D))
        if config.reduce > 1:
            self.neck = nn.Linear(D, D // config.reduce, bias=False)
            self.norm_neck = nn.RMSNorm(config.class_width, NORM_EPS)
        in_turns = config.bidirectional == "layer"
        self.layers = nn.ModuleList(
            Block(config, reverse=in_turns and i % 2 == 1) for i in range(config.depth)
        )
        self.norm_f = Norm(D)
        classes = config.num_classes
        self.head = nn.Linear(config.features, classes) if classes else nn.Identity()
        self._rotary: Rotary | None = None
        self._at_once: VimBlocks | None = None

    def features(self, tokens: Tensor, layout: Layout, out_indices: Sequence[int]) -> list[Tensor]:
        """The hidden states ``[T, D]`` (residual not added) after the blocks ``out_indices``."""
        ends = sorted({i + 1 for i in out_indices})
        return [hidden.to(tokens.dtype) for hidden, _ in self.run_blocks(tokens, layout, ends)]

    def last_features(self, tokens: Tensor, layout: Layout) -> Tensor:
        """The hidden states after the last block plus the residual, ``[T, D]``, not normalised."""
        ((hidden, residual),) = self.run_blocks(tokens, layout, [self._depth])
        return residual.add_(hidden).to(tokens.dtype)

    def classify(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Class scores ``[N, classes]`` of N embedded sequences ``[T, D]``."""
        ((hidden, residual),) = self.run_blocks(tokens, layout, [self._depth])
        if self.config.pooling == "max" and self.config.readout == "class":
            scores = self.head(self._normalise(hidden, residual)).split(layout.lengths)
            return torch.stack([image.amax(0) for image in scores])
        return self.head(self._read_out(hidden, residual, layout))

    def _read_out(self, hidden: Tensor, residual: Tensor, layout: Layout) -> Tensor:
        """What the classifier reads, ``[N, features]``; the residual is overwritten."""
        config, parts = self.config, []
        if config.readout in config.readouts and config.readout != "mean":
            last = config.pooling == "last"
            rows = layout.cu_seqlens[1:, None] - 1 if last else layout.class_rows
            taken = (part.index_select(0, rows.flatten()) for part in (hidden, residual))
            parts.append(self._read(self._normalise(*taken).unflatten(0, rows.shape)))
        if config.readout == "both" or not parts:
            parts.append(self.patch_means(self._normalise(hidden, residual), layout))
        return torch.cat(parts, 1)

    def _normalise(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """Features ``[_, D]`` in the dtype of the weights."""
        weight = self.norm_f.weight
        return add_norm(hidden, residual, weight, NORM_EPS)[0].to(weight.dtype)

    def _read(self, class_tokens: Tensor) -> Tensor:
        """What the classifier reads of normalised class tokens ``[N, c, D]``."""
        if not self.config.registers:
            return class_tokens.mean(1)
        if self.config.reduce == 1:
            return class_tokens.flatten(1)
        reduced: Tensor = self.norm_neck(self.neck(class_tokens).flatten(1))
        return reduced

    def run_blocks(
        self, tokens: Tensor, layout: Layout, ends: Sequence[int] | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield hidden state and residual ``[T, D]`` after each block, or each pair of blocks.

        The residual is overwritten by the next block; the two add up to the token's features.

        Args:
            tokens: ``[T, D]`` embedded sequences.
            layout: of the tokens.
            ends: yield only after these numbers of blocks (or pairs), which ascend, and run none
                after the last.
        """
        ends = range(1, self._depth + 1) if ends is None else ends
        hidden = tokens.to(activation_dtype(tokens.device.type, tokens.dtype))
        residual: Tensor | None = None
        turn, at_once = self._turn(layout), self._blocks_at_once()
        for begin, end in pairwise([0, *ends]):
            if at_once is not None:
                while begin < end:
                    hidden, residual, begin = at_once(
                        begin, end, hidden, residual, layout.cu_seqlens, turn, follow_limit()
                    )
            else:
                for i in each_block(range(begin, end)):
                    hidden, residual = self._run_block(i, hidden, residual, layout, turn)
            assert residual is not None
            yield hidden, residual

    @property
    def _depth(self) -> int:
        """Blocks, or pairs of blocks where two read the same input in opposite directions."""
        in_pairs = self.config.bidirectional == "layer"
        return len(self.layers) // 2 if in_pairs else len(self.layers)

    def _run_block(
        self, i: int, hidden: Tensor, residual: Tensor | None, layout: Layout, turn: Turn | None
    ) -> tuple[Tensor, Tensor]:
        if self.config.bidirectional != "layer":
            one: tuple[Tensor, Tensor] = self.layers[i](hidden, residual, layout, turn)
            return one
        # Outputs and residuals of the two add up.
        forward, residual = self.layers[2 * i](hidden, residual, layout, turn)
        backward, residual = self.layers[2 * i + 1](residual, None, layout)
        return forward.add_(backward), residual.mul_(2)

    def _blocks_at_once(self) -> "VimBlocks | None":
        """All blocks as one kernel, where there is one for them."""
        weight = self.pos_embed
        if self.config.bidirectional == "layer" or not has_vim_blocks(weight.device, weight.dtype):
            return None
        if self._at_once is None:
            from vimserve.kernels.vim_blocks.cpu import VimBlocks

            blocks = [block for block in self.layers if isinstance(block, Block)]
            weights = [block.mixer.weights(block.norm.weight) for block in blocks]
            self._at_once = VimBlocks(weights, NORM_EPS)
        return self._at_once

    def turns(self, grids: Sequence[Grid]) -> Tensor | None:
        """``Layout.turns`` of images with these grids, if there is a rotary embedding."""
        return self._prepare_rotary().positions(grids) if self.config.rope else None

    def split_positions(self) -> tuple[Tensor, Tensor]:
        """The position embeddings of patches and of class tokens, ``[_, D]`` each."""
        if self.config.registers:
            return self.pos_embed.detach()[0], self.pos_embed_cls.detach()[0]
        return super().split_positions()

    def forget_prepared(self) -> None:
        """Drop everything derived from the parameters."""
        super().forget_prepared()
        self._rotary = None
        self._at_once = None

    def _turn(self, layout: Layout) -> Turn | None:
        rope = self.config.rope
        if rope is None:
            return None
        assert layout.turns is not None
        return Turn(layout.turns, self._prepare_rotary().rates, rope.residual)

    def _prepare_rotary(self) -> Rotary:
        self._rotary = self._rotary or Rotary(self.config, self.pos_embed.device)
        return self._rotary

    def graph_buckets(self, max_tokens: int) -> list[Bucket]:
        """As ``PackedModel.graph_buckets``; the buckets hold any images.

        For each number of tokens there is one for every schedule that the scan chooses.

        Raises:
            ValueError: if it is a classifier whose pooling cannot be recorded.
        """
        check_recordable(self.config)
        if self.config.num_classes and self.config.pooling not in RECORDABLE_POOLINGS:
            raise ValueError(
                f"pooling={self.config.pooling!r} cannot be recorded as a CUDA graph, only "
                f"{', '.join(RECORDABLE_POOLINGS)}: run the model itself"
            )
        return make_buckets(max_tokens, self._scan_schedule)

    def _scan_schedule(self, bucket: Bucket) -> int:
        config, device = self.config, self.pos_embed.device
        K = 2 if config.bidirectional in ("ssm", "ssm+conv") else 1
        T, N = bucket.tokens, bucket.sequences
        return chunk_tokens(T, N, K, config.inner_width, config.dt_rank, bucket.longest, device)

"""Vision Mamba (arXiv 2401.09417) over packed batches of images of any sizes."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vimserve.kernels.add_norm import add_norm
from vimserve.kernels.triton_config import chunk_tokens
from vimserve.model.buckets import Bucket, make_buckets
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.mixer import Mixer
from vimserve.model.layout import Layout
from vimserve.model.packed import PackedModel, normal

NORM_EPS = 1e-5
# They read the same number of tokens of every image, which fixes the shapes in a graph.
RECORDABLE_POOLINGS = ("middle", "head", "double", "last")


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
        self, hidden: Tensor, residual: Tensor | None, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """``[T, D]`` hidden and float32 residual to the same; the residual is overwritten."""
        weight = self.norm.weight
        normed, residual = add_norm(hidden, residual, weight, NORM_EPS)
        return self.mixer(normed.to(weight.dtype), layout), residual


class Vim(PackedModel):
    """A Vision Mamba classifier, forward only.

    Modules and parameters carry the published names, so a published state dict loads with
    ``load_state_dict(strict=True)``.
    """

    graphs_need_kernels = True

    config: VimConfig

    def __init__(self, config: VimConfig) -> None:
        super().__init__(config)
        D = config.width
        if config.pooling == "double":
            self.cls_token_head = nn.Parameter(normal(1, 1, D))
            self.cls_token_tail = nn.Parameter(normal(1, 1, D))
        elif config.class_tokens:
            self.cls_token = nn.Parameter(normal(1, 1, D))
        in_turns = config.bidirectional == "layer"
        self.layers = nn.ModuleList(
            Block(config, reverse=in_turns and i % 2 == 1) for i in range(config.depth)
        )
        self.norm_f = Norm(D)
        self.head = nn.Linear(D, config.num_classes) if config.num_classes else nn.Identity()

    def features(self, tokens: Tensor, layout: Layout, out_indices: Sequence[int]) -> list[Tensor]:
        """The hidden states ``[T, D]`` (residual not added) after the blocks ``out_indices``."""
        blocks = enumerate(self.run_blocks(tokens, layout))
        return [hidden for i, (hidden, _) in blocks if i in out_indices]

    def classify(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Class scores ``[N, classes]`` of N embedded sequences ``[T, D]``."""
        hidden, residual = deque(self.run_blocks(tokens, layout), maxlen=1).pop()
        norm, pooling = self.norm_f.weight, self.config.pooling
        if self.config.class_tokens or pooling == "last":
            rows = layout.cu_seqlens[1:, None] - 1 if pooling == "last" else layout.class_rows
            hidden = hidden.index_select(0, rows.flatten())
            residual = residual.index_select(0, rows.flatten())
            features, _ = add_norm(hidden, residual, norm, NORM_EPS)
            return self.head(features.unflatten(0, rows.shape).mean(1))
        features, _ = add_norm(hidden, residual, norm, NORM_EPS)
        if pooling == "mean":
            images = features.split(layout.lengths)
            return self.head(torch.stack([image.mean(0) for image in images]))
        scores = self.head(features).split(layout.lengths)
        return torch.stack([image.amax(0) for image in scores])

    def run_blocks(self, tokens: Tensor, layout: Layout) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield hidden state and residual ``[T, D]`` after each block, or each pair of blocks.

        The residual is overwritten by the next block; the two add up to the token's features.
        """
        hidden: Tensor = tokens
        residual: Tensor | None = None
        if self.config.bidirectional == "layer":
            # Two blocks read the same input in opposite directions; outputs and residuals add up.
            for ahead, back in zip(self.layers[::2], self.layers[1::2], strict=True):
                forward, residual = ahead(hidden, residual, layout)
                backward, residual = back(residual, None, layout)
                hidden, residual = forward.add_(backward), residual.mul_(2)
                yield hidden, residual
        else:
            for layer in self.layers:
                hidden, residual = layer(hidden, residual, layout)
                yield hidden, residual

    def graph_buckets(self, max_tokens: int) -> list[Bucket]:
        """As ``PackedModel.graph_buckets``; the buckets hold any images.

        For each number of tokens there is one for every schedule that the scan chooses.

        Raises:
            ValueError: if it is a classifier whose pooling cannot be recorded.
        """
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

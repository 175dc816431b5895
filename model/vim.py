"""Vision Mamba (arXiv 2401.09417) over packed batches of images of any sizes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from kernels.add_norm import add_norm
from model.batch import PackedBatch
from model.config import VimConfig
from model.embed import Embedding, PatchProjection
from model.layout import Layout
from model.mamba import Mixer

NORM_EPS = 1e-5


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


class PatchEmbedding(nn.Module):
    """The published names of the patch projection's weight ``[D, 3, P, P]`` and bias ``[D]``."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.stride)


class Vim(nn.Module):
    """A Vision Mamba classifier, forward only.

    Modules and parameters carry the published names, so a published state dict loads with
    ``load_state_dict(strict=True)``. What the kernels want in another layout is derived at the
    first forward pass after loading; after changing parameters in place, call
    ``forget_prepared()``.
    """

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.config = config
        D, rows, cols = config.width, *config.grid
        self.patch_embed = PatchEmbedding(config)
        self.pos_embed = nn.Parameter(_normal(1, rows * cols + config.class_tokens, D))
        if config.pooling == "double":
            self.cls_token_head = nn.Parameter(_normal(1, 1, D))
            self.cls_token_tail = nn.Parameter(_normal(1, 1, D))
        elif config.class_tokens:
            self.cls_token = nn.Parameter(_normal(1, 1, D))
        in_turns = config.bidirectional == "layer"
        self.layers = nn.ModuleList(
            Block(config, reverse=in_turns and i % 2 == 1) for i in range(config.depth)
        )
        self.norm_f = Norm(D)
        self.head = nn.Linear(D, config.num_classes)
        self._embedding: tuple[PatchProjection, Embedding] | None = None
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda *_: self.forget_prepared()
        )

    @torch.inference_mode()
    def forward(self, batch: PackedBatch) -> Tensor:
        """Class scores ``[N, classes]`` of a packed batch of N images.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        return self.classify(*self.embed(batch))

    @torch.inference_mode()
    def forward_features(self, batch: PackedBatch, out_indices: Sequence[int]) -> list[Tensor]:
        """The hidden states ``[T, D]`` (residual not added) after the blocks ``out_indices``."""
        blocks = enumerate(self.run_blocks(*self.embed(batch)))
        return [hidden for i, (hidden, _) in blocks if i in out_indices]

    def num_tokens(self, grid: tuple[int, int]) -> int:
        """Length of the sequence of an image with this grid of patches."""
        return grid[0] * grid[1] + self.config.class_tokens

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Load or compile every kernel and derive the weights, so that no request waits for it."""
        side = self.config.patch_size + self.config.stride
        image = self.norm_f.weight.new_zeros(3, side, side)
        self(PackedBatch.from_images([image], self.config.patch_size, self.config.stride))

    def embed(self, batch: PackedBatch) -> tuple[Tensor, Layout]:
        """Tokens ``[T, D]`` and where their sequences lie."""
        weight = self.patch_embed.proj.weight
        if batch.patches.shape[1] != weight[0].numel():
            raise ValueError(
                f"patches have {batch.patches.shape[1]} values, the model takes "
                f"{weight[0].numel()}: pack with patch_size={self.config.patch_size}, "
                f"stride={self.config.stride}"
            )
        if self._embedding is None:
            class_tokens = [
                p for name, p in self.named_parameters() if name.startswith("cls_token")
            ]
            self._embedding = (
                PatchProjection(
                    self.patch_embed.proj, self.config.pixel_mean, self.config.pixel_std
                ),
                Embedding(self.pos_embed, class_tokens, self.config.grid, self.config.pooling),
            )
        project, place = self._embedding
        layout = Layout.of(self.config.pooling, batch.grids, weight.device)
        return place(project(batch.patches.to(weight.device)), batch.grids, layout), layout

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

    def forget_prepared(self) -> None:
        """Drop everything derived from the parameters."""
        self._embedding = None
        for module in self.modules():
            if isinstance(module, Mixer):
                module.forget_prepared()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.forget_prepared()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape) * 0.02

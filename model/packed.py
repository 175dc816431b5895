"""What the model families share: packed patches to tokens, and weights derived after loading."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from vimserve.model.batch import PackedBatch
from vimserve.model.config import BackboneConfig
from vimserve.model.embed import Embedding, PatchProjection
from vimserve.model.layout import Layout


class PatchEmbedding(nn.Module):
    """The published names of the patch projection's weight ``[D, 3, P, P]`` and bias ``[D]``."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.stride)


class PackedModel(nn.Module, abc.ABC):
    """A classifier of packed batches of images of any sizes, forward only.

    What runs in another layout than the parameters' own is derived at the first forward pass after
    loading; after changing parameters in place, call ``forget_prepared()``. A subclass adds the
    parameters of its class tokens, whose names begin with ``cls_token``.
    """

    antialias: ClassVar[bool] = False  # of resized position embeddings

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        rows, cols = config.grid
        self.patch_embed = PatchEmbedding(config)
        self.pos_embed = nn.Parameter(normal(1, rows * cols + config.class_tokens, config.width))
        self._embedding: tuple[PatchProjection, Embedding] | None = None
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda *_: self.forget_prepared()
        )

    @abc.abstractmethod
    def classify(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Class scores ``[N, classes]`` of N embedded sequences ``[T, D]``."""

    @torch.inference_mode()
    def forward(self, batch: PackedBatch) -> Tensor:
        """Class scores ``[N, classes]`` of a packed batch of N images.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        return self.classify(*self.embed(batch))

    def num_tokens(self, grid: tuple[int, int]) -> int:
        """Length of the sequence of an image with this grid of patches."""
        return grid[0] * grid[1] + self.config.class_tokens

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Load or compile every kernel and derive the weights, so that no request waits for it."""
        side = self.config.patch_size + self.config.stride
        image = self.pos_embed.new_zeros(3, side, side)
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
        project, place = self._embedding or self._prepare_embedding()
        layout = Layout.of(self.config.pooling, batch.grids, weight.device)
        return place(project(batch.patches.to(weight.device)), batch.grids, layout), layout

    def forget_prepared(self) -> None:
        """Drop everything derived from the parameters."""
        self._embedding = None

    def _prepare_embedding(self) -> tuple[PatchProjection, Embedding]:
        config = self.config
        class_tokens = [p for name, p in self.named_parameters() if name.startswith("cls_token")]
        self._embedding = (
            PatchProjection(self.patch_embed.proj, config.pixel_mean, config.pixel_std),
            Embedding(
                self.pos_embed, class_tokens, config.grid, config.pooling, antialias=self.antialias
            ),
        )
        return self._embedding

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.forget_prepared()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def normal(*shape: int) -> Tensor:
    """Initial values of embeddings and class tokens."""
    return torch.randn(shape) * 0.02

"""What the classifiers share, which are also the backbones: packed patches to tokens."""

import abc
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from vimserve.model.architecture import BackboneConfig, TokensConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import AnyBucket
from vimserve.model.embed import Embedding, PatchProjection
from vimserve.model.layout import Grid, Layout
from vimserve.model.served import Answers, ServedModel, Wanted


class PatchEmbedding(nn.Module):
    """The published names of the patch projection's weight ``[D, 3, P, P]`` and bias ``[D]``."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.stride)


class PackedModel(ServedModel):
    """A classifier of packed batches of images of any sizes, and the backbone of a segmenter.

    A subclass adds the parameters of its class tokens, whose names begin with ``cls_token``.
    """

    final_norm: ClassVar[str]  # name of the module that only the classifier's features go through
    graphs_need_kernels: ClassVar[bool]  # of this project, not only PyTorch's own

    config: TokensConfig

    def __init__(self, config: TokensConfig) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbedding(config)
        self.pos_embed = nn.Parameter(normal(1, config.positions, config.width))
        self._embedding: tuple[PatchProjection, Embedding] | None = None

    @property
    def antialias(self) -> bool:
        """Whether position embeddings are resized with a filter that widens when they shrink."""
        return False

    @abc.abstractmethod
    def classify(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Class scores ``[N, classes]`` of N embedded sequences ``[T, D]``."""

    @abc.abstractmethod
    def features(self, tokens: Tensor, layout: Layout, out_indices: Sequence[int]) -> list[Tensor]:
        """Features ``[T, D]`` of embedded sequences ``[T, D]`` after each of ``out_indices``."""

    @abc.abstractmethod
    def last_features(self, tokens: Tensor, layout: Layout) -> Tensor:
        """What the blocks make of embedded sequences, before any norm; ``[T, D]`` to ``[T, D]``."""

    @abc.abstractmethod
    def graph_buckets(self, max_tokens: int) -> Sequence[AnyBucket]:
        """Ascending shapes of CUDA graphs for batches of up to ``max_tokens``; there may be none.

        Raises:
            ValueError: if forward passes of this model cannot be recorded.
        """

    @torch.inference_mode()
    def forward(self, batch: PackedBatch) -> Tensor:
        """Class scores ``[N, classes]`` of a packed batch of N images.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        with self.running(batch):
            return self.classify(*self.embed(batch))

    @torch.inference_mode()
    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:  # noqa: ARG002
        """Class scores, as ``ServedModel.answer``."""
        return Answers.of_scores(self(batch))

    @torch.inference_mode()
    def forward_features(self, batch: PackedBatch, out_indices: Sequence[int]) -> list[Tensor]:
        """Features ``[T, D]`` of all tokens, class tokens included, after each of ``out_indices``.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        with self.running(batch):
            return self.features(*self.embed(batch), out_indices)

    def of_patches(self, features: Sequence[Tensor], batch: PackedBatch) -> list[Tensor]:
        """The rows of the patches ``[T, D]`` among those of all tokens."""
        if not self.config.class_tokens:
            return [*features]
        layout = Layout.of(self.config, batch.grids, features[0].device)
        rows = layout.patch_rows(len(batch.patches))
        return [of_block.index_select(0, rows) for of_block in features]

    def patch_means(self, features: Tensor, layout: Layout) -> Tensor:
        """The mean ``[N, D]`` of each sequence's patches, of the features ``[T, D]`` of all tokens.

        The host has to know the lengths, which it does not in a graph.
        """
        class_tokens = self.config.class_tokens
        lengths = [length - class_tokens for length in layout.lengths]
        if class_tokens:
            features = features.index_select(0, layout.patch_rows(sum(lengths)))
        return torch.stack([image.mean(0) for image in features.split(lengths)])

    @property
    def width(self) -> int:
        """Of a token in the blocks."""
        return self.config.width

    def num_tokens(self, grid: tuple[int, int]) -> int:
        """Length of the sequence of an image with this grid of patches."""
        return grid[0] * grid[1] + self.config.class_tokens

    def embed(self, batch: PackedBatch) -> tuple[Tensor, Layout]:
        """Tokens ``[T, D]`` and where their sequences lie.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        weight = self.patch_embed.proj.weight
        if batch.patches.shape[1] != weight[0].numel():
            raise ValueError(
                f"patches have {batch.patches.shape[1]} values, the model takes "
                f"{weight[0].numel()}: pack with patch_size={self.config.patch_size}, "
                f"stride={self.config.stride}"
            )
        project, place = self._embedding or self._prepare_embedding()
        turns = self.turns(batch.grids)
        layout = Layout.of(self.config, batch.grids, weight.device, turns)
        return place(project(batch.patches.to(weight.device)), batch.grids, layout), layout

    def turns(self, grids: Sequence[Grid]) -> Tensor | None:  # noqa: ARG002
        """``Layout.turns`` of images with these grids, in a model whose channels turn."""
        return None

    def split_positions(self) -> tuple[Tensor, Tensor]:
        """Position embeddings ``[rows * columns, D]`` of patches and ``[c, D]`` of class tokens."""
        table = self.pos_embed.detach()[0]
        rows, cols = self.config.grid
        taken = self.config.class_positions(rows * cols)
        between = pairwise([-1, *taken, len(table)])
        patches = torch.cat([table[a + 1 : b] for a, b in between])
        return patches, torch.cat([table[:0], *(table[row : row + 1] for row in taken)])

    def forget_prepared(self) -> None:
        """Drop everything derived from the parameters."""
        super().forget_prepared()
        self._embedding = None

    def _prepare_embedding(self) -> tuple[PatchProjection, Embedding]:
        config = self.config
        patches, class_tokens = self.split_positions()
        own = [p.detach()[0] for name, p in self.named_parameters() if name.startswith("cls_token")]
        self._embedding = (
            PatchProjection(self.patch_embed.proj, config.pixel_mean, config.pixel_std),
            Embedding(
                patches,
                class_tokens + torch.cat(own) if own else class_tokens,
                config,
                antialias=self.antialias,
            ),
        )
        return self._embedding


def check_recordable(config: TokensConfig) -> None:
    """Check that a classifier's forward passes can become CUDA graphs.

    Raises:
        ValueError: if it reads of all patches, whose numbers the host does not know in a graph.
    """
    if config.num_classes and config.readout != "class":
        raise ValueError(
            f"readout={config.readout!r} cannot be recorded as a CUDA graph: run the model itself"
        )


def normal(*shape: int) -> Tensor:
    """Initial values of embeddings and class tokens."""
    return torch.randn(shape) * 0.02

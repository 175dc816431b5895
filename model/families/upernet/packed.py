"""What all segmenters on a backbone of packed tokens share."""

import abc
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families.upernet.segmenter import Segmenter
from vimserve.model.layout import Grid
from vimserve.model.packed import PackedModel


class FeaturesConfig(ModelConfig, Protocol):
    """The configuration of a head that reads the features of some blocks."""

    @property
    def out_indices(self) -> Sequence[int]:
        """The blocks, the first from 0."""


class PackedSegmenter(Segmenter):
    """A head on the features of some blocks, which are computed over the packed tokens."""

    config: FeaturesConfig

    @property
    @abc.abstractmethod
    def packed(self) -> PackedModel:
        """The backbone."""

    @torch.inference_mode()
    def features(self, batch: PackedBatch) -> list[Tensor]:
        """Features ``[T, D]`` of all patches after each of ``out_indices``."""
        features = self.packed.forward_features(batch, self.config.out_indices)
        return self.packed.of_patches(features, batch)

    @property
    def width(self) -> int:
        """Of a token in the backbone's blocks."""
        return self.packed.width

    def num_tokens(self, grid: Grid) -> int:
        """Length of the sequence of an image with this grid of patches."""
        return self.packed.num_tokens(grid)

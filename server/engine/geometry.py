"""What a model makes of an image's size, which needs no weights."""

import torch

from vimserve.model.batch import patch_grid
from vimserve.model.families import build
from vimserve.model.served import ServedModel
from vimserve.model.spec import ModelSpec


class Geometry:
    """How long the sequences are that a model has of inputs.

    Args:
        spec: the model.
        module: of that model; by default one without weights.
    """

    def __init__(self, spec: ModelSpec, module: ServedModel | None = None) -> None:
        self.spec = spec
        if module is None:
            with torch.device("meta"):
                module = build(spec.config)
        self.module = module

    def tokens(self, height: int, width: int) -> int:
        """Length of the sequence that an input of ``height`` × ``width`` pixels becomes."""
        config = self.spec.config
        grid = patch_grid((3, height, width), config.patch_size, config.stride)
        return self.module.num_tokens(grid)

    def largest_side(self, max_resolution: int) -> int:
        """``max_resolution`` pixels, rounded up to whole patches, and to what the model needs."""
        transform = self.spec.transform
        side = max(max_resolution, transform.minimum)
        return -(-side // transform.multiple) * transform.multiple

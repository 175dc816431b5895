"""The published detectors' cases: models, pictures and what the published code made of them."""

import functools
import json
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.paths import GOLDEN
from vimserve.loadtests.gpu_check.recipe import make_detector_weights, make_pictures
from vimserve.model.batch import PackedBatch
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.families.cascade.pyramid import PooledLevels, coarsest
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.transform import Transform, pad_normalised

CASES = json.loads((GOLDEN / "det_cases.json").read_text())
GIVEN_BOXES = 32  # of each picture


@dataclass(frozen=True, eq=False)
class Case:
    """One case; ``golden`` are the published arrays, ``pixels`` the resized pictures."""

    model: CascadeDetector
    golden: dict[str, Tensor]
    pictures: list[np.ndarray]
    pixels: list[Tensor]
    batch: PackedBatch
    sizes: list[tuple[int, int]]
    originals: list[tuple[int, int]]

    @property
    def given_images(self) -> Tensor:
        """The picture of each given box."""
        return torch.arange(len(self.sizes), dtype=torch.int32).repeat_interleave(GIVEN_BOXES)

    @torch.inference_mode()
    def pooled_levels(self, features: Tensor | None = None) -> PooledLevels:
        """The levels that boxes are pooled from, of features ``[T, D]`` or the backbone's."""
        if features is None:
            features = self.model.last_features(self.batch)
        features = features.to(next(self.model.parameters()).dtype)
        N = self.batch.num_images
        levels = PooledLevels.empty(self.batch.grids, self.model.config.channels, features)
        self.model.backbone(features.view(N, *self.batch.grids[0], -1), levels.of_images(0, N))
        return levels

    def levels(self, features: Tensor | None = None) -> list[Tensor]:
        """All levels, ``[N, H, W, C]`` each."""
        levels = self.pooled_levels(features).of_images(0, self.batch.num_images)
        return [*levels, coarsest(levels[-1])]

    def in_bfloat16(self) -> "Case":
        """The same with weights that are rounded to bfloat16."""
        model = CascadeDetector(self.model.config).eval()
        model.load_state_dict(self.model.state_dict())
        return replace(self, model=model.bfloat16())


@functools.cache
def make_case(name: str) -> Case:
    """The case, its weights and pictures made again."""
    given = CASES[name]
    side = given["size"]
    backbone = VimConfig(
        width=given["embed_dim"], depth=given["depth"], grid=(side // 16, side // 16), rope=Rope()
    )
    config = CascadeConfig(
        backbone,
        channels=given["channels"],
        box_width=given["box_fc"],
        num_classes=given["classes"],
    )
    model = CascadeDetector(config).eval()
    model.load_state_dict(make_detector_weights(model, given["background_bias"]))
    originals = [tuple(size) for size in given["originals"]]
    pictures = make_pictures(originals)
    transform = Transform(side, "square", filter="bilinear")
    pixels = [transform(Image.fromarray(picture)) for picture in pictures]
    padded = [pad_normalised(p, (side, side), config.pixel_mean, config.pixel_std) for p in pixels]
    return Case(
        model=model,
        golden={k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"det_{name}.npz").items()},
        pictures=pictures,
        pixels=pixels,
        batch=PackedBatch.from_images(padded),
        sizes=[transform.picture_size(*size) for size in originals],
        originals=originals,
    )


def matched(distances: Tensor, within: float) -> Tensor:
    """For each golden row the nearest of ours, -1 if none is ``within``; ``[golden, ours]``."""
    nearest, index = distances.min(1)
    return index.where(nearest <= within, -1)


def strided(maps: Tensor, channels: int) -> Tensor:
    """``[N, H, W, C]`` as the golden files keep it."""
    step = max(1, maps.shape[2] // 16)
    return maps.permute(0, 3, 1, 2)[:, ::channels, ::step, ::step]

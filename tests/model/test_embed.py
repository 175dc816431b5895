import copy

import pytest
import torch

from tests.closeness import assert_close
from vimserve.model.architecture import IMAGENET_MEAN, IMAGENET_STD
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_model
from vimserve.model.embed import PatchProjection
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.model import Vim


def random_pixels(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randint(256, (3, *size), dtype=torch.uint8, generator=random) for size in sizes]


def normalise(pixels: torch.Tensor, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> torch.Tensor:
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
    return (pixels.double() / 255 - mean) / std


@pytest.mark.parametrize("stride", [16, 8])
def test_pixels_give_the_scores_of_their_normalised_images(stride):
    torch.manual_seed(0)
    mean, std = (0.5, 0.1, 0.9), (0.5, 0.2, 0.05)
    config = VimConfig(depth=2, num_classes=10, stride=stride, pixel_mean=mean, pixel_std=std)
    model = Vim(config).eval()
    pixels = random_pixels((64, 96), (48, 32))
    normalised = [normalise(image, mean, std).float() for image in pixels]

    scores = model(PackedBatch.from_images(pixels, stride=stride))

    expected = model(PackedBatch.from_images(normalised, stride=stride))
    assert_close("scores", scores, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_folding_costs_no_precision(dtype):
    """Judged as the kernels are: at most twice the error of the plain path in the same dtype."""
    embedding = load_model("demo").patch_embed.proj  # type: ignore[union-attr]
    cast = copy.deepcopy(embedding).to(dtype)
    pixels = random_pixels((256, 256))
    normalised = PackedBatch.from_images([normalise(pixels[0])]).patches
    exact = normalised @ embedding.weight.double().flatten(1).T + embedding.bias.double()  # type: ignore[operator, union-attr]
    project = PatchProjection(cast, IMAGENET_MEAN, IMAGENET_STD)  # type: ignore[arg-type]

    folded = project(PackedBatch.from_images(pixels).patches)

    plain = project(normalised.to(dtype))
    assert folded.dtype == dtype
    worst = (plain.double() - exact).abs().max().item()
    assert_close(str(dtype), folded, exact, atol=2 * worst)

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.closeness import assert_close
from vimserve.model import catalog
from vimserve.model.architecture import TokensConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.heads.features import (
    AHEAD,
    BATCH_TOKENS,
    Seen,
    block_maps,
    columns,
    extract,
    frozen,
    readable,
)
from vimserve.model.packed import PackedModel
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform

VIM = VimConfig(width=32, depth=2, num_classes=5, grid=(2, 2))
CONFIGS: dict[str, TokensConfig] = {
    "middle": VIM,
    "double": replace(VIM, pooling="double"),
    "last": replace(VIM, pooling="last"),
    "mean": replace(VIM, pooling="mean"),
    "max": replace(VIM, pooling="max"),
    "registers": replace(VIM, pooling="registers", registers=2, reduce=2),
    "deit": DeiTConfig(width=32, depth=2, heads=4, num_classes=5, grid=(2, 2)),
}
SIZES = [(32, 48), (16, 16), (48, 32), (32, 48)]


def images() -> list[Tensor]:
    noise = torch.Generator().manual_seed(0)
    return [torch.randint(256, (3, *s), dtype=torch.uint8, generator=noise) for s in SIZES]


def spec_of(config: TokensConfig, tmp_path: Path) -> ModelSpec:
    torch.manual_seed(0)
    save_file(build(config).state_dict(), tmp_path / "backbone.safetensors")
    return ModelSpec("own", config, (), Transform(), tmp_path / "backbone.safetensors")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_features_are_what_classifiers_read(config: TokensConfig, tmp_path: Path) -> None:
    spec = spec_of(config, tmp_path)
    published = catalog.load(spec)
    features, batch = frozen(spec)(PackedBatch.from_images(images())), images()
    assert features.shape == (4, readable(spec).features)
    assert isinstance(published, PackedModel)
    if "class" in config.readouts:
        of_class = features[:, columns(readable(spec), "class")]
        expected = published(PackedBatch.from_images(batch))
        assert_close("class", published.get_submodule("head")(of_class), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["middle", "deit"])
def test_the_mean_is_that_of_the_normalised_patches(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    spec = spec_of(config, tmp_path)
    model = frozen(spec)
    batch = PackedBatch.from_images(images())
    means = model(batch)[:, columns(readable(spec), "mean")]
    tokens, layout = model.embed(batch)
    with torch.inference_mode():
        last = model.last_features(tokens, layout)
        weight = model.get_submodule(model.final_norm).weight
        assert isinstance(weight, Tensor)
        if name == "middle":
            normed = torch.nn.functional.rms_norm(last, [32], weight, 1e-5)
        else:
            normed = model.get_submodule("norm")(last)
    for image, sequence in enumerate(normed.split(layout.lengths)):
        (of_class,) = config.class_positions(len(sequence) - 1)
        others = torch.cat([sequence[:of_class], sequence[of_class + 1 :]])
        assert_close(f"image {image}", means[image], others.mean(0), atol=1e-5)


@pytest.mark.parametrize("name", ["middle", "deit"])
def test_block_maps_lie_as_the_patches_do(name: str, tmp_path: Path) -> None:
    model = frozen(spec_of(CONFIGS[name], tmp_path))
    batch = PackedBatch.from_images(images())
    maps = block_maps(model, batch, [0, 1])
    assert [one.shape for one in maps] == [(2, 32, h // 16, w // 16) for h, w in SIZES]
    tokens = model.forward_features(batch, [0, 1])[1]
    first = tokens[: 2 * 3 + 1]
    (of_class,) = model.config.class_positions(6)
    patches = torch.cat([first[:of_class], first[of_class + 1 :]])
    assert torch.equal(maps[0][1].flatten(1).T, patches)


def test_what_cannot_have_another_head_is_refused() -> None:
    with pytest.raises(ValueError, match="--backbone demo-seg is a vim-upernet: a head is trained"):
        readable(catalog.resolve("demo-seg"))
    with pytest.raises(ValueError, match="--backbone resnet-50 is a resnet"):
        readable(catalog.resolve("resnet-50"))


def test_pictures_come_in_their_order_whatever_else_is_in_the_batch(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 16)
    model = frozen(spec_of(VIM, tmp_path))
    every = images() * 10
    sizes: list[int] = []
    loaded: list[int] = []
    got: list[Seen[int]] = []
    held: list[int] = []

    def load(index: int) -> Tensor:
        if index == 7:
            raise ValueError("no picture")
        loaded.append(index)
        held.append(len(loaded) - len(got))
        return every[index]

    def run(batch: PackedBatch) -> list[Tensor]:
        sizes.append(batch.num_images)
        return [*model(batch)]

    problems: list[tuple[int, str]] = []
    for seen in extract(
        range(40), load, model, run, lambda item, error: problems.append((item, str(error)))
    ):
        got.append(seen)  # noqa: PERF402  the loader looks at it
    assert problems == [(7, "no picture")]
    assert [one.item for one in got] == [i for i in range(40) if i != 7]
    for one in got:
        assert torch.equal(one.pixels, every[one.item])
        alone = model(PackedBatch.from_images([every[one.item]]))[0]
        assert torch.equal(one.features, alone)
    assert len(sizes) > 5
    assert max(held) <= AHEAD + 2 * max(sizes) + 1

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.model.checkpoints import rope_tables
from vimserve.model import catalog
from vimserve.model.architecture import TokensConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.family import Variant
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.heads.features import frozen
from vimserve.model.heads.saving import Trained
from vimserve.model.samples import SampleRange
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform

LABELS = ("red apple, ripe", "яблоко", "りんご $5")
VIM = VimConfig(width=32, depth=2, num_classes=5, grid=(4, 4), pooling="head", divide=False)
DEIT = DeiTConfig(width=32, depth=2, heads=4, num_classes=5, grid=(4, 4))
TRANSFORM = Transform(
    resolution=48, fit="contain", crop_ratio=0.9, range=SampleRange("percentiles", 2, 98),
    bands=(4, 3, 2),
)  # fmt: skip


@pytest.fixture(params=["vim", "deit"])
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> ModelSpec:
    torch.manual_seed(0)
    config: TokensConfig = VIM if request.param == "vim" else DEIT
    file = tmp_path / "backbone.safetensors"
    save_file(build(config).state_dict(), file)
    return ModelSpec("own", config, ("",) * 5, TRANSFORM, file)


def trained(backbone: ModelSpec, readout: str = "both") -> Trained:
    config = replace(backbone.config, num_classes=3, readout=readout)  # type: ignore[type-var]
    assert isinstance(config, TokensConfig)
    torch.manual_seed(1)
    head = {"head.weight": torch.randn(3, config.features), "head.bias": torch.randn(3)}
    return Trained(config, LABELS, TRANSFORM, backbone, "", head)


def batch() -> PackedBatch:
    images = [torch.randint(256, (3, h, w), dtype=torch.uint8) for h, w in [(48, 64), (32, 32)]]
    return PackedBatch.from_images(images)


@pytest.mark.parametrize("readout", ["class", "mean", "both"])
def test_a_whole_file_needs_nothing_else(backbone, readout, tmp_path) -> None:
    made = trained(backbone, readout)
    file = tmp_path / "mine.safetensors"
    made.save(file)
    spec = catalog.resolve(f"mine={file}")
    assert (spec.config, spec.labels, spec.assumed) == (made.config, LABELS, "")
    assert spec.transform == replace(TRANSFORM, multiple=16, minimum=16)
    backbone.source.unlink()
    asked = batch()
    assert catalog.load(spec)(asked).shape == (2, 3)
    assert [one.name for one in tmp_path.iterdir()] == ["mine.safetensors"]


def test_the_served_classifier_says_what_the_head_says_of_the_features(backbone, tmp_path) -> None:
    made = trained(backbone)
    file = tmp_path / "mine.safetensors"
    made.save(file)
    asked = batch()
    features = frozen(backbone)(asked)
    scores = features @ made.tensors["head.weight"].T + made.tensors["head.bias"]
    torch.testing.assert_close(catalog.load(catalog.resolve(f"m={file}"))(asked), scores)


def test_what_is_said_behind_the_question_mark_counts(backbone, tmp_path) -> None:
    file, names = tmp_path / "mine.safetensors", tmp_path / "names.txt"
    trained(backbone).save(file)
    names.write_text("a\nb\nc\n")
    spec = catalog.resolve(f"mine={file}?resolution=native&labels={names}")
    assert (spec.transform.resolution, spec.labels) == (None, ("a", "b", "c"))
    assert spec.transform.fit == "contain"


def test_a_size_of_the_picture_s_own_is_kept(backbone, tmp_path) -> None:
    file = tmp_path / "mine.safetensors"
    replace(trained(backbone), transform=replace(TRANSFORM, resolution=None)).save(file)
    assert catalog.resolve(f"mine={file}").transform.resolution is None


def test_a_rotary_embedding_keeps_the_tables_that_tell_it(tmp_path: Path) -> None:
    rope = Rope(span=6, residual=False)
    config = VimConfig(width=32, depth=2, num_classes=5, grid=(4, 4), rope=rope)
    backbone = ModelSpec("own", config, ("",) * 5, TRANSFORM, tmp_path / "backbone.safetensors")
    save_file(build(config).state_dict() | rope_tables(4, 32, 6), tmp_path / "backbone.safetensors")
    made = trained(backbone)
    made.save(tmp_path / "mine.safetensors")
    spec = catalog.resolve(f"mine={tmp_path / 'mine.safetensors'}")
    assert spec.config == made.config
    assert catalog.load(spec)(batch()).shape == (2, 3)


@pytest.fixture
def in_catalog(backbone: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """The backbone as if it were one of the catalog."""
    variant = Variant(backbone.config, backbone.source)
    monkeypatch.setitem(catalog._VARIANTS, "own", variant)
    return backbone


def test_a_head_alone_is_small_and_gets_its_backbone_from_the_catalog(in_catalog, tmp_path):
    made = trained(in_catalog)
    whole, head = tmp_path / "whole.safetensors", tmp_path / "head.safetensors"
    made.save(whole)
    made.save(head, head_only=True)
    assert {*load_file(head)} == {"head.weight", "head.bias"}
    spec = catalog.resolve(f"mine={head}")
    assert (spec.config, spec.labels, spec.available) == (made.config, LABELS, True)
    asked = batch()
    expected = catalog.load(catalog.resolve(f"mine={whole}"))(asked)
    assert torch.equal(catalog.load(spec)(asked), expected)
    in_catalog.source.unlink()
    assert not spec.available


def test_a_head_of_another_backbone_is_refused(in_catalog, tmp_path: Path) -> None:
    head = tmp_path / "head.safetensors"
    trained(in_catalog).save(head, head_only=True)
    spec = catalog.resolve(f"mine={head}")
    state = load_file(in_catalog.source)
    state["pos_embed"] += 1e-6
    save_file(state, in_catalog.source)
    with pytest.raises(CheckpointError, match="it is the head of another backbone: own"):
        catalog.load(spec)


def test_a_head_needs_a_backbone_that_others_have(backbone, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a head alone needs a backbone of the catalog"):
        trained(backbone).save(tmp_path / "head.safetensors", head_only=True)
    assert [one.name for one in tmp_path.iterdir()] == ["backbone.safetensors"]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("backbone", "unheard-of", "it is a head of 'unheard-of', which the catalog does not have"),
        ("backbone", "/etc/x=/etc/passwd", "which the catalog does not have"),
        ("labels", ["a", "b"], "metadata labels: 2 names for 3 classes"),
        ("labels", [1, 2, 3], "metadata labels: neither a list of names"),
        ("palette", [[0, 0, 999]] * 3, "metadata palette: neither a list of"),
        ("readout", "all", "readout='all' is not one of class, mean, both"),
        ("resolution", "-3", "resolution must be at least 1, not -3"),
        ("stride", 16, "something else than a text for 'stride'"),
        ("surprise", "1", "unknown option 'surprise' of model 'mine'"),
    ],
)
def test_metadata_that_others_have_changed_are_refused(backbone, tmp_path, name, value, problem):
    file = tmp_path / "mine.safetensors"
    trained(backbone).save(file)
    with safe_open(file, "pt") as opened:
        said = json.loads(opened.metadata()["vimserve"])
    save_file(load_file(file), file, {"vimserve": json.dumps(said | {name: value})})
    with pytest.raises(ValueError, match=problem) as caught:
        catalog.resolve(f"mine={file}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_damaged_metadata_are_refused(backbone, tmp_path, text):
    file = tmp_path / "mine.safetensors"
    trained(backbone).save(file)
    save_file(load_file(file), file, {"vimserve": text})
    with pytest.raises(CheckpointError, match=f"{file}: its metadata are damaged"):
        catalog.resolve(f"mine={file}")


def test_a_file_is_the_same_every_time(backbone, tmp_path) -> None:
    one, two = (tmp_path / f"{name}.safetensors" for name in ("one", "two"))
    for file in (one, two):
        trained(backbone).save(file)
    assert one.read_bytes() == two.read_bytes()

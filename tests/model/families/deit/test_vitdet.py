"""A detector's backbone, as ViTDet has it, against a slow reference from the formulas."""

import dataclasses
from typing import Any

import pytest
import torch

from tests.closeness import assert_close
from tests.model.families.deit import reference
from tests.model.offdevice import Operations, meta_batch, meta_model
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.families.deit import relative
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.deit.windows import Windows

NANO = DeiTConfig(
    width=16, depth=8, heads=2, patch_size=4, num_classes=0, grid=(4, 4),
    class_token=False, class_position=False,
)  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "global": {},
    "row of a class token": {"class_position": True},
    "windows": {"window": 3},
    "relative positions": {"rel_pos": (4, 5)},
    "both": {"rel_pos": (4, 5), "window": 3, "class_position": True},
}
# Whole windows, edges on either side, less than a window, and one grid twice.
GRIDS = [(3, 6), (4, 4), (7, 5), (2, 2), (1, 4), (5, 7), (4, 4)]


def make(**form: Any) -> DeiT:
    """Relative positions and biases are large enough for a wrong sign or place to be seen."""
    model = DeiT(dataclasses.replace(NANO, **form))
    model.load_state_dict(make_weights(model))
    random = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or name.endswith("qkv.bias"):
            parameter.data = torch.randn(parameter.shape, generator=random)
    return model


def images(grids: list[tuple[int, int]]) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4 * rows, 4 * cols, generator=random) for rows, cols in grids]


@torch.inference_mode()
def run(model: DeiT, given: list[torch.Tensor]) -> torch.Tensor:
    return model.last_features(*model.embed(PackedBatch.from_images(given, 4, 4)))


@pytest.mark.parametrize("attention", ["fused", "eager"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_packed_batch_is_what_the_formulas_say_of_each_image(
    form: dict[str, Any], attention: str
) -> None:
    model = make(**form, attention=attention)
    given = images(GRIDS)
    expected = [reference.backbone(model.state_dict(), model.config, image) for image in given]

    features = run(model, given)

    wanted = torch.cat([torch.from_numpy(one).flatten(0, 1) for one in expected])
    assert_close("features", features, wanted, atol=1e-4)


@pytest.mark.parametrize("most", [1, 40, 500])
def test_parts_of_the_queries_give_what_all_of_them_give(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    model, given = make(**FORMS["both"]), images(GRIDS)
    at_once = run(model, given)
    monkeypatch.setattr(relative, "MOST_ADDED", most)
    assert_close("in parts", run(model, given), at_once, atol=1e-5)


def test_all_windows_of_all_images_go_through_one_call() -> None:
    model, given = make(window=3), images(GRIDS)
    with Operations() as operations:
        run(model, given)
    calls = [name for name in operations.names if "scaled_dot_product" in name]
    lengths = {rows * cols for rows, cols in GRIDS}
    assert len(calls) == 4 + 4 * len(lengths)  # in a block without windows one for each


def test_every_token_has_one_place() -> None:
    grids = [(5, 7), (3, 3), (1, 2)]
    windows = Windows.of(grids, 3, torch.device("cpu"))
    tokens = sum(rows * cols for rows, cols in grids)
    assert windows.sources[windows.places].tolist() == list(range(tokens))
    assert len(windows.sources) == (2 * 3 + 1 + 1) * 9
    assert (windows.sources == tokens).sum() == len(windows.sources) - tokens


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_nothing_waits_for_the_device(form: dict[str, Any]) -> None:
    config = dataclasses.replace(NANO, **form)
    model, batch = meta_model(config, torch.bfloat16), meta_batch(config, GRIDS)
    assert isinstance(model, DeiT)
    with Operations() as operations, torch.inference_mode():
        features = model.last_features(*model.embed(batch))
    assert features.shape == (sum(rows * cols for rows, cols in GRIDS), 16)
    assert not operations.to_host
    assert not operations.by_mask


def test_of_twelve_blocks_four_have_no_windows() -> None:
    config = dataclasses.replace(NANO, depth=12, window=14)
    assert [i for i in range(12) if not config.window_of(i)] == [2, 5, 8, 11]
    config = dataclasses.replace(NANO, depth=24, window=14)
    assert [i for i in range(24) if not config.window_of(i)] == [5, 11, 17, 23]


@pytest.mark.parametrize("form", [FORMS["windows"], FORMS["relative positions"]])
def test_what_the_number_of_tokens_does_not_tell_is_not_recorded(form: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="depend on the image's sides"):
        make(**form).graph_buckets(1024)

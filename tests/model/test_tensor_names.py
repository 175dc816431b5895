import pytest
import torch

from vimserve.model.tensor_names import bare_names, find_below

WEIGHT, COUNT = torch.zeros(2, 3), torch.tensor(7)
NAMES = ("pos_embed", "layers.0.norm.weight", "head.bias")


def bare(*names: str, **counters: torch.Tensor) -> dict[str, str]:
    return bare_names(dict.fromkeys(names, WEIGHT) | counters)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.module._orig_mod.", "ema.", "model_ema.module.",
     "_fsdp_wrapped_module._checkpoint_wrapped_module."],
)  # fmt: skip
def test_what_stands_before_all_names(prefix: str) -> None:
    assert bare(*(prefix + name for name in NAMES)) == {prefix + name: name for name in NAMES}


def test_names_of_a_model_itself_stay() -> None:
    assert bare(*NAMES, n_averaged=COUNT) == {name: name for name in (*NAMES, "n_averaged")}


def test_wrappers_of_parts() -> None:
    assert bare("layers.0._orig_mod.norm.weight", "backbone.module.head.bias") == {
        "layers.0._orig_mod.norm.weight": "layers.0.norm.weight",
        "backbone.module.head.bias": "backbone.head.bias",
    }


@pytest.mark.parametrize("counter", ["n_averaged", "model.n_averaged"])
def test_a_counter_is_no_part_of_a_model(counter: str) -> None:
    names = {f"model.module.{name}": name for name in NAMES}
    assert bare(*names, **{counter: COUNT}) == names


def test_a_counter_of_a_layer_stays() -> None:
    """Such as a batch normalisation's ``num_batches_tracked``."""
    names = {f"model.{name}": name for name in (*NAMES, "bn.num_batches_tracked")}
    given = bare(*list(names)[:-1], **{"model.bn.num_batches_tracked": COUNT})
    assert given == names


def test_names_that_would_become_the_same_stay() -> None:
    names = ("head.bias", "module.head.bias", "pos_embed")
    assert bare(*names) == {name: name for name in names}


def test_a_model_among_other_tensors() -> None:
    names = ["net.layers.0.norm.weight", "net.head.bias", "loss.weight"]
    assert find_below(names, ["layers.0.norm.weight"]) == ("net.", ["loss.weight"])
    assert find_below(names, ["blocks.0.weight"]) is None

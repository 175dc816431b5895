"""Where users import from, whatever the folders look like inside."""

import importlib

import pytest

ENTRY_POINTS = [
    ("batch", "PackedBatch"),
    ("catalog", "load_model"),
    ("config", "DEIT_BASE"),
    ("config", "DEIT_BASE_384"),
    ("config", "DEIT_SMALL"),
    ("config", "DEIT_SMALL_UPERNET"),
    ("config", "DEIT_TINY"),
    ("config", "DEIT_TINY_UPERNET"),
    ("config", "DeiTConfig"),
    ("config", "UPerNetConfig"),
    ("config", "VIM_BASE"),
    ("config", "VIM_SMALL"),
    ("config", "VIM_SMALL_PLUS"),
    ("config", "VIM_SMALL_UPERNET"),
    ("config", "VIM_TINY"),
    ("config", "VIM_TINY_PLUS"),
    ("config", "VIM_TINY_UPERNET"),
    ("config", "VimConfig"),
    ("deit", "DeiT"),
    ("upernet", "UPerNetSegmenter"),
    ("vim", "Vim"),
]


@pytest.mark.parametrize(("module", "name"), ENTRY_POINTS)
def test_it_is_there(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"vimserve.model.{module}"), name)

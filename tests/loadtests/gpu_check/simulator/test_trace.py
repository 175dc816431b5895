"""A trace has what the model's code launches, with the counts of the shapes."""

from dataclasses import replace

import pytest
import torch

from vimserve.loadtests.gpu_check import counts
from vimserve.loadtests.gpu_check.simulator.launches import Launch
from vimserve.loadtests.gpu_check.simulator.trace import Operation, block, forward
from vimserve.model.config import DEIT_TINY, VIM_SMALL, VIM_TINY, VimConfig
from vimserve.model.families.deit.config import Attention


@pytest.mark.parametrize("config", [VIM_TINY, VIM_SMALL])
@pytest.mark.parametrize("images", [1, 3])
def test_products_are_those_that_are_counted(config: VimConfig, images: int) -> None:
    steps = forward(config, images, 224, torch.bfloat16, 132)
    flops = sum(step.flops for step in steps if isinstance(step, Operation))

    assert flops == counts.forward(config, images, (14, 14), 2).flops


def test_a_block_in_both_schedules() -> None:
    def launches(lengths: list[int]) -> list[str]:
        steps = block(VIM_TINY, lengths, torch.bfloat16, 132)
        return [step.name for step in steps if isinstance(step, Launch)]

    before = ["_add_norm", "_convolve"]
    assert launches([50] * 512) == [*before, "walk_outputs"]
    assert launches([6085]) == [*before, "walk_states", "carry", "walk_outputs"]


def test_launches_have_their_programs() -> None:
    steps = block(VIM_TINY, [50] * 512, torch.bfloat16, 132)
    walk = next(step for step in steps if step.name == "walk_outputs")

    assert isinstance(walk, Launch)
    assert (walk.programs, walk.warps) == (3 * 512 * 2, 4)  # channel blocks, images, directions


def test_attention_is_counted_whole_or_by_its_products() -> None:
    config = replace(DEIT_TINY, depth=1)
    pair = 2 * 2 * 3 * 197 * 197 * 64  # images, multiply-adds, heads, scores, width of a head

    def steps(attention: Attention) -> list[Operation]:
        made = forward(replace(config, attention=attention), 2, 224, torch.bfloat16, 132)
        return [step for step in made if isinstance(step, Operation)]

    fused = [step for step in steps("fused") if step.name == "scaled_dot_product_attention"]
    assert [step.flops for step in fused] == [2 * pair]
    assert [step.special for step in fused] == [2 * 3 * 197 * 197]
    assert [step.flops for step in steps("eager") if step.name == "matmul"] == [pair, pair]


def test_views_are_free_and_selections_cost_what_they_select() -> None:
    steps = forward(replace(VIM_TINY, depth=1), 1, 224, torch.bfloat16, 132)

    assert not {"view", "chunk", "split", "empty", "expand"} & {step.name for step in steps}
    selected = [step for step in steps if step.name == "index_select"]
    assert [step.bytes for step in selected if isinstance(step, Operation)] == [768, 1536]

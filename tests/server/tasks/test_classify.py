from typing import Any

import numpy as np
import pytest
import torch

from vimserve.server.tasks import TASKS
from vimserve.server.tasks.classify import ClassScores, best


def concluded(logits, spec):
    plan = TASKS["classify"].plan(spec, TASKS["classify"].ask({}), 1248)
    unused: Any = None
    return plan.conclude(unused, [torch.tensor(logits)])


def test_results_are_scores_before_softmax(spec):
    assert concluded([0.0, 2.0, -1.0], spec).logits.tolist() == [0, 2, -1]


def test_probabilities_are_among_all_classes():
    logits = np.array([0.0, 2.0, -1.0, 1.0])
    expected = torch.tensor(logits).softmax(0).tolist()
    assert ClassScores(logits).softmax().tolist() == pytest.approx(expected)
    assert ClassScores(np.zeros(4)).softmax()[0] == 0.25


def test_the_best_first():
    assert best(np.array([0.0, 2.0, -1.0, 1.0]), 3) == [1, 3, 0]


def test_ties_go_by_index():
    assert best(np.zeros(4), 4) == [0, 1, 2, 3]


def test_large_logits_do_not_overflow():
    scores = ClassScores(np.array([1e30, 0.0, -1e30, 1e4])).softmax()
    assert scores[best(scores, 2)].tolist() == [1, 0]


def test_the_command_line_prints_the_likeliest(spec):
    task = TASKS["classify"]
    lines = list(task.lines(spec, task.ask({"top_k": 2}), ClassScores(np.arange(7.0))))
    assert [line.split("%  ")[1] for line in lines] == ["class 6", "class 5"]
    assert [float(line.split("%")[0]) for line in lines] == pytest.approx([63.28, 23.28], abs=0.01)

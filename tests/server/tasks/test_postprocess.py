import pytest
import torch

from vimserve.server.tasks.postprocess import top_k

LABELS = ["a", "b", "c", "d"]


def test_the_likeliest_first():
    logits = torch.tensor([0.0, 2.0, -1.0, 1.0])
    best = top_k(logits, LABELS, 3)
    assert [prediction.label for prediction in best] == ["b", "d", "a"]
    assert [prediction.index for prediction in best] == [1, 3, 0]
    expected = logits.softmax(0)[[1, 3, 0]].tolist()
    assert [prediction.score for prediction in best] == pytest.approx(expected)


def test_scores_are_among_all_classes():
    assert sum(p.score for p in top_k(torch.randn(4), LABELS, 4)) == pytest.approx(1)
    assert top_k(torch.zeros(4), LABELS, 1)[0].score == 0.25


def test_ties_go_by_index():
    assert [p.index for p in top_k(torch.zeros(4), LABELS, 4)] == [0, 1, 2, 3]


def test_large_logits_do_not_overflow():
    best = top_k(torch.tensor([1e30, 0.0, -1e30, 1e4]), LABELS, 2)
    assert [p.score for p in best] == [1, 0]

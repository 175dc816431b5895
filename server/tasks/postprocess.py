"""Class scores to named probabilities."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from vimserve.server.schemas import Prediction


def top_k(logits: Tensor, labels: Sequence[str], k: int) -> list[Prediction]:
    """The ``k`` likeliest classes of logits ``[classes]``, best first, ties by index.

    Scores are the softmax over all classes, not over the ``k``.
    """
    # In NumPy: torch would start its thread pool in the event loop's thread.
    scores = logits.numpy().astype(np.float64)
    scores = np.exp(scores - scores.max())
    scores /= scores.sum()
    best = np.argsort(-scores, kind="stable")[:k]
    return [Prediction(index=i, label=labels[i], score=scores[i]) for i in best.tolist()]

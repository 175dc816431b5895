"""Predicts the device memory of a batch, with a curve fitted to measured batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

Sample = tuple[Sequence[int], int]


@dataclass(frozen=True)
class MemoryModel:
    """Predicts the peak memory of a batch above the weights, in bytes.

    It is ``base + Σ (per_image + per_token · n + per_token_squared · n²)``, summed over images of n
    tokens. What a model does in parts of a fixed size, such as a detector's second stage, is in
    ``base``; what it keeps of every image whatever its size, such as the detections, in
    ``per_image``.
    """

    base: int
    per_token: float
    per_token_squared: float = 0.0
    per_image: int = 0

    def cost(self, tokens: int) -> int:
        """Bytes that one image adds to a batch, besides ``base``."""
        return math.ceil(
            self.per_image + self.per_token * tokens + self.per_token_squared * tokens**2
        )

    def predict(self, lengths: Sequence[int]) -> int:
        """Peak bytes of a batch whose images have ``lengths`` tokens."""
        return self.base + sum(self.cost(tokens) for tokens in lengths)


def fit(samples: Sequence[Sample], *, quadratic: bool, per_image: int = 0) -> MemoryModel:
    """Fit a memory model with non-negative coefficients by least squares.

    Of samples with the same lengths only the highest counts. At the end ``base`` is raised until
    no sample is above the curve.

    Args:
        samples: for each measured batch, the tokens of its images and its peak in bytes.
        quadratic: whether memory may grow with the square of an image's tokens.
        per_image: what an image takes whatever its size, in bytes, which is not fitted.

    Raises:
        ValueError: if the samples are too few, or too much alike, to tell the coefficients apart.
    """
    peaks: dict[tuple[int, ...], int] = {}
    for lengths, peak in samples:
        key = tuple(sorted(lengths))
        peaks[key] = max(peak, peaks.get(key, 0))
    powers = range(3 if quadratic else 2)
    terms = np.array([_terms(lengths)[: len(powers)] for lengths in peaks], dtype=float)
    if not peaks or np.linalg.matrix_rank(terms / terms.max(axis=0)) < len(powers):
        raise ValueError(
            f"{len(powers)} coefficients need as many samples that differ in tokens, "
            f"not {len(samples)} of {sorted(peaks)}"
        )
    rest = [max(peak - per_image * len(lengths), 0) for lengths, peak in peaks.items()]
    base, per_token, *squared = _least_squares(terms, np.array(rest, dtype=float)).tolist()
    curve = MemoryModel(math.ceil(base), per_token, sum(squared), per_image)
    shortfall = max(peak - curve.predict(lengths) for lengths, peak in peaks.items())
    return replace(curve, base=curve.base + max(0, shortfall))


def _terms(lengths: Sequence[int]) -> tuple[int, int, int]:
    return 1, sum(lengths), sum(tokens**2 for tokens in lengths)


def _least_squares(terms: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Non-negative least squares: fit every subset of the coefficients and keep the best."""
    scale = terms.max(axis=0)
    columns = range(terms.shape[1])
    best, least = np.zeros(len(columns)), math.inf
    for size in range(len(columns), -1, -1):
        for kept in map(list, combinations(columns, size)):
            trial = np.zeros(len(columns))
            trial[kept] = np.linalg.lstsq(terms[:, kept] / scale[kept], peaks, rcond=None)[0]
            error = float(np.square(terms / scale @ trial - peaks).sum())
            if (trial >= 0).all() and error < least:
                best, least = trial / scale, error
    return best

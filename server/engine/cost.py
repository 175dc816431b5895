"""Predicts how long batches take, with a curve that is learnt from the batches that run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

# What a batch weighs beside the one after it: about the last fifty count.
FORGETTING = 0.98
# A batch that something else held up counts as at most so many times what was expected of it.
SLOWEST = 4.0
SWEEPS = 8
# How much batches of one image count against what those of several told of a further image.
DOUBT = 0.02


@dataclass(frozen=True)
class Load:
    """Images: how many, the sum of their tokens, and that of the squares of their tokens."""

    images: int = 0
    tokens: int = 0
    squares: int = 0

    @classmethod
    def of(cls, lengths: Iterable[int]) -> Self:
        """The load of images with ``lengths`` tokens."""
        lengths = [*lengths]
        return cls(len(lengths), sum(lengths), sum(tokens**2 for tokens in lengths))

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.images + other.images, self.tokens + other.tokens, self.squares + other.squares
        )

    def __sub__(self, other: "Load") -> "Load":
        return Load(
            self.images - other.images, self.tokens - other.tokens, self.squares - other.squares
        )


@dataclass(frozen=True)
class CostModel:
    """Predicts the seconds of a batch.

    They are ``launch + Σ (per_image + per_token · n + per_token_squared · n²)``, summed over images
    of n tokens. What nothing is known of costs nothing.
    """

    launch: float = 0.0
    per_image: float = 0.0
    per_token: float = 0.0
    per_token_squared: float = 0.0

    def image(self, tokens: int) -> float:
        """Seconds that one image adds to a batch."""
        return self.per_image + tokens * (self.per_token + tokens * self.per_token_squared)

    def predict(self, load: Load, batches: int = 1) -> float:
        """Seconds of ``batches`` that carry the load together."""
        return (
            batches * self.launch
            + load.images * self.per_image
            + load.tokens * self.per_token
            + load.squares * self.per_token_squared
        )


class CostCurve:
    """Learns a cost model from batches, of which the later ones count more.

    The coefficients are those of non-negative least squares in the relative errors. What a batch of
    one image takes, whatever its size, counts as its launch until batches of more tell the rest,
    and again once these are forgotten. So images that come one by one do not teach that nothing is
    gained by running them together, and what a few disturbed batches taught is not for ever.

    Attributes:
        model: what has been learnt.
    """

    def __init__(self) -> None:
        self.model = CostModel()
        self._coefficients = [0.0] * 4
        self._products = [[0.0] * 4 for _ in range(4)]
        self._targets = [0.0] * 4

    def observe(self, lengths: Sequence[int], seconds: float) -> None:
        """Learn from a batch: the tokens of its images, and how long it took.

        Raises:
            ValueError: if it took no time, or had no images.
        """
        if not (lengths and seconds > 0):
            raise ValueError(f"a batch of {len(lengths)} images took {seconds} s")
        load = Load.of(lengths)
        expected = self.model.predict(load) or seconds
        terms = [term / expected for term in (1, load.images - 1, load.tokens, load.squares)]
        target = min(seconds / expected, SLOWEST)
        for i, row in enumerate(self._products):
            for j, term in enumerate(terms):
                row[j] = FORGETTING * row[j] + terms[i] * term
            self._targets[i] = FORGETTING * self._targets[i] + terms[i] * target
        self._solve()
        first, further, *of_tokens = self._coefficients
        self.model = CostModel(max(first - further, 0.0), further, *of_tokens)

    def _solve(self) -> None:
        """Descend along one coefficient after another, from where they were."""
        found = self._coefficients
        doubt = [0.0, DOUBT * self._products[0][0], 0.0, 0.0]
        for _ in range(SWEEPS):
            for i, row in enumerate(self._products):
                rest = self._targets[i] - sum(row[j] * found[j] for j in range(4) if j != i)
                weight = row[i] + doubt[i]
                found[i] = max(rest / weight, 0.0) if weight else 0.0

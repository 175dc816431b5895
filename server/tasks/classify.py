"""Classification: the likeliest classes of an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field
from torch import Tensor

from vimserve.model.spec import ModelSpec
from vimserve.server.errors import InvalidParameter
from vimserve.server.images.prepare import Measured
from vimserve.server.tasks.numbers import whole_number
from vimserve.server.tasks.query import ImageQuery, Resolution, transform_for
from vimserve.server.tasks.task import Plan, Task

DEFAULT_TOP_K = 5

Scores = np.ndarray[Any, np.dtype[np.float64]]


class ClassifyQuery(ImageQuery):
    """Query parameters of a classification."""

    top_k: Annotated[int | None, BeforeValidator(whole_number(1))] = Field(
        default=None,
        ge=1,
        description="classes to return; by default 5, or all if there are fewer",
        examples=[3],
    )
    resolution: Resolution = Field(
        default=None,
        description="side of the model's input in pixels (with `fit=contain` the longer one), or "
        "`native` for the image's own size; by default what the model was evaluated at",
    )
    fit: Literal["crop", "contain"] | None = Field(
        default=None,
        description="`crop` fills a square and cuts the rest, `contain` keeps the whole image and "
        "its aspect ratio; by default what the model was evaluated with",
        examples=["contain"],
    )


@dataclass(frozen=True, eq=False)
class ClassScores:
    """A classifier's output for an image.

    Attributes:
        logits: float64 ``[classes]``, before any softmax.
    """

    logits: Scores

    def softmax(self) -> Scores:
        """Probabilities ``[classes]``, which add up to 1."""
        scores = np.exp(self.logits - self.logits.max())
        return scores / scores.sum()


class Classify(Task[ClassifyQuery, ClassScores]):
    """Names what an image shows."""

    name = "classify"
    query = ClassifyQuery

    def plan(
        self,
        spec: ModelSpec,
        query: ClassifyQuery,
        max_resolution: int,
        form: str | None = None,  # noqa: ARG002
    ) -> Plan[ClassScores]:
        """See ``Task.plan``."""
        classes_wanted(query.top_k, len(spec.labels))
        transform = transform_for(spec, query, query.resolution, query.fit, max_resolution)
        return Plan(transform, _conclude)

    def lines(self, spec: ModelSpec, query: ClassifyQuery, result: ClassScores) -> Iterator[str]:
        """The likeliest classes, best first, with their probabilities."""
        probabilities = result.softmax()
        for i in best(probabilities, classes_wanted(query.top_k, len(spec.labels))):
            yield f"{probabilities[i]:7.2%}  {spec.labels[i]}"


def classes_wanted(top_k: int | None, classes: int) -> int:
    """How many classes to return; only the default is lowered to the number of classes.

    Raises:
        InvalidParameter: if ``top_k`` is not from 1 to ``classes``.
    """
    if top_k is None:
        return min(DEFAULT_TOP_K, classes)
    if not 1 <= top_k <= classes:
        raise InvalidParameter(
            f"top_k must be from 1 to {classes}, the number of classes, not {top_k}",
            parameter="top_k",
            limit=classes if top_k > classes else 1,
            value=top_k,
        )
    return top_k


def best(scores: Scores, k: int) -> list[int]:
    """The ``k`` classes with the highest scores, best first, ties by index."""
    return np.argsort(-scores, kind="stable")[:k].tolist()


def _conclude(_measured: Measured, outputs: Sequence[Tensor]) -> ClassScores:
    (logits,) = outputs
    # NumPy, because torch would start another thread pool in this thread.
    return ClassScores(logits.numpy().astype(np.float64))

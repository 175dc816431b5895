"""The task image-classification."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from vimserve.model.spec import ModelSpec
from vimserve.server.images.prepare import Measured
from vimserve.server.routes.hugging_face.parameters import Parameters, read_parameters
from vimserve.server.tasks.classify import DEFAULT_TOP_K, Classify, ClassScores, Scores, best
from vimserve.server.tasks.task import Plan

TAG = "image-classification"
TASK = Classify()

Function = Literal["softmax", "sigmoid", "none"]


class ClassificationParameters(Parameters):
    """What Hugging Face names for this task."""

    top_k: int | None = Field(default=None, ge=1)
    function_to_apply: Function | None = None


class ScoredLabel(BaseModel):
    """A class and its score."""

    label: str
    score: float


def prepare(
    spec: ModelSpec, given: Mapping[str, Any], max_resolution: int
) -> tuple[Plan[ClassScores], Callable[[Measured, ClassScores], list[ScoredLabel]]]:
    """How the model answers with these parameters, and what renders its result.

    Raises:
        BadRequest: it cannot.
    """
    wanted, query = read_parameters(given, ClassificationParameters, TASK, without=("top_k",))
    plan = TASK.plan(spec, query, max_resolution)
    return plan, partial(_render, spec, wanted)


def _render(
    spec: ModelSpec, wanted: ClassificationParameters, _measured: Measured, result: ClassScores
) -> list[ScoredLabel]:
    scores = _apply(wanted.function_to_apply or "softmax", result)
    return [
        ScoredLabel(label=spec.labels[i], score=scores[i])
        for i in best(scores, wanted.top_k or DEFAULT_TOP_K)
    ]


def _apply(function: Function, result: ClassScores) -> Scores:
    if function == "softmax":
        return result.softmax()
    if function == "sigmoid":
        # Written so, it cannot overflow.
        return (1 + np.tanh(result.logits / 2)) / 2
    return result.logits

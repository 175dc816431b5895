"""``POST /v1/classify``."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from vimserve.model.spec import ModelSpec
from vimserve.server.images.prepare import Measured
from vimserve.server.routes.dependencies import RequestUrgency, Service, admitted
from vimserve.server.routes.documents import IMAGE_BODY, PROBLEMS
from vimserve.server.routes.native.rendering import Form, Rendering, Result, answer, json_response
from vimserve.server.routes.native.schemas import BatchInfo, Compared, ModelInput, Timing
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.classify import ClassifyQuery, ClassScores, best, classes_wanted

TASK = TASKS["classify"]
CHECKED_CLASSES = 5
# Allowed difference, relative to the likeliest class's score: with random weights all scores are
# near one in a thousand.
SCORE_BOUND = 1e-3

router = APIRouter(prefix="/v1")


class NativeClassifyQuery(ClassifyQuery):
    """What `POST /v1/classify` may be asked."""

    model: str | None = Field(
        default=None,
        description="one of `GET /v1/models`; by default the first that classifies",
        examples=["demo"],
    )


class Prediction(BaseModel):
    """A class and its probability among all classes."""

    index: int
    label: str
    score: float = Field(ge=0, le=1)


class ClassifyResult(BaseModel):
    """The answer for one image."""

    file: str | None = Field(default=None, description="name of the upload, in a multipart request")
    predictions: list[Prediction] = Field(description="likeliest first")
    input: ModelInput


class ClassifyResponse(BaseModel):
    """Predictions for every image of the request, in its order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "vim-tiny",
                "results": [
                    {
                        "predictions": [
                            {"index": 207, "label": "golden retriever", "score": 0.871},
                            {"index": 208, "label": "Labrador retriever", "score": 0.064},
                        ],
                        "input": {"height": 224, "width": 224, "tokens": 197},
                    }
                ],
                "timing_ms": {
                    "decode": 4.1,
                    "queue": 0.2,
                    "inference": 31.7,
                    "postprocess": 0.1,
                    "total": 36.9,
                },
                "batch": {"images": 1, "tokens": 197, "peak_memory_bytes": 7_340_032},
            }
        }
    )

    model: str
    results: list[ClassifyResult]
    timing_ms: Timing
    batch: BatchInfo


class ComparedClassifier(Compared, ClassifyResponse):
    """What one of the models made of the images."""


@router.post(
    "/classify",
    tags=["inference"],
    openapi_extra=IMAGE_BODY,
    responses=PROBLEMS,
    response_model=ClassifyResponse,
    dependencies=[Depends(admitted)],
)
async def classify(
    request: Request,
    pipeline: Service,
    urgency: RequestUrgency,
    query: Annotated[NativeClassifyQuery, Query()],
) -> Response:
    """Name what is in one or more images."""
    return await answer(request, pipeline, urgency, RENDERING, query)


def form(spec: ModelSpec, query: ClassifyQuery) -> Form[ClassScores, ClassifyResult]:
    """How the answer is written: always in JSON."""
    return Form(partial(render, spec, query), partial(json_response, ClassifyResponse, spec))


def render(
    spec: ModelSpec, query: ClassifyQuery, measured: Measured, result: ClassScores
) -> ClassifyResult:
    """The likeliest classes of an image, with their probabilities among all classes."""
    probabilities = result.softmax()
    return ClassifyResult(
        file=measured.name,
        predictions=[
            Prediction(index=i, label=spec.labels[i], score=probabilities[i])
            for i in best(probabilities, classes_wanted(query.top_k, len(spec.labels)))
        ],
        input=ModelInput.of(measured),
    )


def fault(result: Result, first: Result, _side: int) -> str | None:
    """How a result is malformed or differs from the first one for its image; None if neither."""
    predictions, before = result["predictions"], first["predictions"]
    scores = [prediction["score"] for prediction in predictions]
    if len(scores) != CHECKED_CLASSES or scores != sorted(scores, reverse=True):
        return f"the predictions are not {CHECKED_CLASSES} classes, likeliest first"
    if not 0 < sum(scores) <= 1 + 1e-5:
        return f"the scores add up to {sum(scores)}, which must be in (0, 1]"
    bound = SCORE_BOUND * before[0]["score"]
    for now, then in zip(predictions, before, strict=True):
        if abs(now["score"] - then["score"]) > bound:
            return "the scores differ from those of an earlier answer for the same picture"
    if before[0]["index"] != predictions[0]["index"] and (
        before[0]["score"] - before[1]["score"] > bound
    ):
        return "the class differs from that of an earlier answer for the same picture"
    return None


RENDERING = Rendering(
    task=TASK,
    query=NativeClassifyQuery,
    response=ClassifyResponse,
    form=form,
    result=render,
    compared=ComparedClassifier,
    check_query=f"top_k={CHECKED_CLASSES}&resolution=native&fit=contain",
    fault=fault,
)

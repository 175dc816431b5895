"""The statistics extension: what a model has done since the server was started."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from vimserve.server.routes.dependencies import Service
from vimserve.server.routes.open_inference.paths import (
    PREFIX,
    UNKNOWN,
    VERSION,
    ModelName,
    of_model,
)
from vimserve.server.telemetry.metrics import Metrics, Totals

router = APIRouter(prefix=PREFIX)


class Duration(BaseModel):
    """How often something happened, and how long it took altogether."""

    count: int
    ns: int = Field(description="nanoseconds of all of them")


class InferenceStatistics(BaseModel):
    """Of requests, and of their stages."""

    success: Duration = Field(description="requests that were answered, without their uploads")
    fail: Duration = Field(description="requests that were refused or failed")
    queue: Duration
    compute_input: Duration = Field(description="decoding, resizing and cutting into patches")
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(BaseModel):
    """Of one model."""

    name: str
    version: str
    last_inference: int = Field(description="milliseconds since 1970; 0 if there was none")
    inference_count: int = Field(description="images")
    execution_count: int = Field(description="batches")
    inference_stats: InferenceStatistics
    batch_stats: list[Any] = Field(description="empty: a batch is bounded in tokens, not images")


class Statistics(BaseModel):
    """Of all models, or of one."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model_stats": [
                    {
                        "name": "demo",
                        "version": VERSION,
                        "last_inference": 1_795_723_200_000,
                        "inference_count": 12,
                        "execution_count": 5,
                        "inference_stats": {
                            "success": {"count": 10, "ns": 412_000_000},
                            "fail": {"count": 1, "ns": 900_000},
                            "queue": {"count": 10, "ns": 21_000_000},
                            "compute_input": {"count": 10, "ns": 38_000_000},
                            "compute_infer": {"count": 10, "ns": 351_000_000},
                            "compute_output": {"count": 10, "ns": 2_000_000},
                        },
                        "batch_stats": [],
                    }
                ]
            }
        }
    )

    model_stats: list[ModelStatistics]


@router.get("/models/stats")
async def all_statistics(pipeline: Service) -> Statistics:
    """What all models have done."""
    models = [_of(pipeline.metrics, name) for name in pipeline.engine.models]
    return Statistics(model_stats=models)


@of_model(router.get, "/stats", responses=UNKNOWN)
async def model_statistics(pipeline: Service, model: ModelName) -> Statistics:
    """What a model has done."""
    pipeline.engine.models.find(model)
    return Statistics(model_stats=[_of(pipeline.metrics, model)])


def _of(metrics: Metrics, model: str) -> ModelStatistics:
    totals = metrics.totals(model)
    return ModelStatistics(
        name=model,
        version=VERSION,
        last_inference=int(totals.last_answer * 1000),
        inference_count=totals.images,
        execution_count=totals.batches,
        inference_stats=InferenceStatistics(
            success=_duration(totals.answered, sum(totals.stages_s.values())),
            fail=_duration(totals.failed, totals.failed_s),
            queue=_stage(totals, "queue"),
            compute_input=_stage(totals, "decode"),
            compute_infer=_stage(totals, "inference"),
            compute_output=_stage(totals, "postprocess"),
        ),
        batch_stats=[],
    )


def _stage(totals: Totals, stage: str) -> Duration:
    return _duration(totals.answered, totals.stages_s.get(stage, 0.0))


def _duration(count: int, seconds: float) -> Duration:
    return Duration(count=count, ns=round(seconds * 1e9))

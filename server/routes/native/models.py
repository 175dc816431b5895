"""``GET /v1/models``."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from vimserve.model.transform import Fit
from vimserve.server.routes.dependencies import Service

router = APIRouter(prefix="/v1")


class TransformInfo(BaseModel):
    """What happens to an image that comes without `resolution`, `fit`, `range` and `bands`."""

    resolution: int | Literal["native"]
    fit: Fit
    crop_ratio: float = Field(description="`crop`: part of the shorter side that is kept")
    multiple: int = Field(description="sides are rounded to multiples of it")
    range: str = Field(
        description="sample values that become black and white, as in a request",
        examples=["dtype", "0,4095", "p2,p98"],
    )
    bands: list[int] | None = Field(
        default=None, description="bands that become red, green and blue, or grey, if it has any"
    )
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class ModelInfo(BaseModel):
    """A model that is served."""

    name: str
    status: str = Field(description="`loading`, `ready`, `unloading` or `failed`")
    detail: str | None = Field(default=None, description="why it failed")
    family: str
    task: str
    attention: str = Field(description="`fused`, `eager`, or `none` in a Vim")
    parameters: int
    classes: int
    labels: list[str] | None = Field(default=None, description="`segment`: the classes' names")
    palette: list[tuple[int, int, int]] | None = Field(
        default=None, description="`segment`: the classes' colours in masks, as red, green, blue"
    )
    transform: TransformInfo
    max_resolution: int = Field(description="largest `resolution`, in pixels")
    dtype: str
    device: str


class ModelList(BaseModel):
    """All models that are served, the default first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "models": [
                    {
                        "name": "vim-tiny",
                        "status": "ready",
                        "family": "vim",
                        "task": "classify",
                        "attention": "none",
                        "parameters": 7_148_008,
                        "classes": 1000,
                        "transform": {
                            "resolution": 224,
                            "fit": "crop",
                            "crop_ratio": 0.875,
                            "multiple": 16,
                            "range": "dtype",
                            "mean": [0.485, 0.456, 0.406],
                            "std": [0.229, 0.224, 0.225],
                        },
                        "max_resolution": 1248,
                        "dtype": "float32",
                        "device": "cpu",
                    }
                ]
            }
        }
    )

    models: list[ModelInfo]


@router.get("/models", tags=["models"], response_model_exclude_none=True)
async def models(pipeline: Service) -> ModelList:
    """The models that are served, the default first."""
    engine, config = pipeline.engine, pipeline.config
    return ModelList(
        models=[
            ModelInfo(
                name=spec.name,
                status=served.status,
                detail=served.detail,
                family=spec.family,
                task=spec.task,
                attention=spec.attention,
                parameters=spec.parameters,
                classes=len(spec.labels),
                labels=list(spec.labels) if spec.palette else None,
                palette=list(spec.palette) if spec.palette else None,
                transform=TransformInfo(
                    resolution=spec.transform.resolution or "native",
                    fit=spec.transform.fit,
                    crop_ratio=spec.transform.crop_ratio,
                    multiple=spec.transform.multiple,
                    range=str(spec.transform.range),
                    bands=None if spec.transform.bands is None else list(spec.transform.bands),
                    mean=spec.config.pixel_mean,
                    std=spec.config.pixel_std,
                ),
                max_resolution=config.max_resolution,
                dtype=config.model_dtype,
                device=config.device,
            )
            for served in engine.models.values()
            for spec in (served.spec,)
        ]
    )

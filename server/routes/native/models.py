"""``GET /v1/models``."""

from hashlib import sha256
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Fit
from vimserve.server.routes.dependencies import Service
from vimserve.server.tasks.detect import has_masks
from vimserve.server.tasks.segment import cell_of

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
    labels: list[str] = Field(description="the classes' names")
    palette: list[tuple[int, int, int]] | None = Field(
        default=None,
        description="`segment` and `detect`: the classes' colours in pictures, as red, green, blue",
    )
    masks: bool | None = Field(default=None, description="`detect`: whether it finds masks, too")
    cell: int | None = Field(
        default=None,
        description="`segment`: side in pixels of what one of its scores is for, if its patches do "
        "not overlap",
        examples=[4],
    )
    identity: str | None = Field(
        default=None,
        description="SHA-256 of the weights as they were loaded and of the preprocessing, once it "
        "is loaded: models with the same one give the same answers",
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
                        "name": "pets",
                        "status": "ready",
                        "family": "vim",
                        "task": "classify",
                        "attention": "none",
                        "parameters": 6_955_587,
                        "classes": 3,
                        "labels": ["cat", "dog", "rabbit"],
                        "identity": sha256(b"pets").hexdigest(),
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
                labels=list(spec.labels),
                palette=list(spec.palette) if spec.palette else None,
                masks=has_masks(spec) if spec.task == "detect" else None,
                cell=_cell(spec),
                identity=served.loaded.runner.identity if served.loaded else None,
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


def _cell(spec: ModelSpec) -> int | None:
    apart = spec.config.patch_size == spec.config.stride
    return cell_of(spec) if spec.task == "segment" and apart else None

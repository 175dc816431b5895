"""Bodies of requests and responses, as OpenAPI shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from vimserve.model.transform import Fit
from vimserve.server.http.numbers import whole_number

Resolution = Annotated[
    str | None,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1}, {"const": "native"}],
            "examples": [224, "native"],
        }
    ),
]


class InputQuery(BaseModel):
    """What becomes of an image; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid")

    top_k: Annotated[int | None, BeforeValidator(whole_number(1))] = Field(
        default=None, ge=1, description="classes to return; by default 5, or all if there are fewer"
    )
    resolution: Resolution = Field(
        default=None,
        description="side of the model's input in pixels (with `fit=contain` the longer one), or "
        "`native` for the image's own size; by default what the model was evaluated at",
    )
    fit: Fit | None = Field(
        default=None,
        description="`crop` fills a square and cuts the rest, `contain` keeps the whole image and "
        "its aspect ratio; by default what the model was evaluated with",
    )


class ClassifyQuery(InputQuery):
    """What `POST /v1/classify` may be asked."""

    model: str | None = Field(
        default=None, description="one of `GET /v1/models`; by default the first of them"
    )


MaskFormat = Literal["png", "overlay"]


class SegmentInput(BaseModel):
    """How a model that segments looks at an image; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid")

    resolution: Resolution = Field(
        default=None,
        description="longer side of the model's input in pixels, or `native` for the image's own "
        "size; by default the image's own, less if it exceeds the limit, and with `mode=slide` "
        "such that the shorter side is as long as a window",
    )
    fit: Literal["contain"] = Field(
        default="contain", description="the whole image: every pixel gets a class"
    )
    mode: Literal["whole", "slide"] = Field(
        default="whole",
        description="`whole`: the image in one piece; `slide`: overlapping square windows, whose "
        "class scores are averaged",
    )
    window: Annotated[int | None, BeforeValidator(whole_number(1))] = Field(
        default=None,
        ge=1,
        description="side of a window in pixels, with `mode=slide`; by default 512",
        examples=[512],
    )


class SegmentQuery(SegmentInput):
    """What `POST /v1/segment` may be asked."""

    model: str | None = Field(
        default=None, description="one of `GET /v1/models`; by default the first that segments"
    )
    format: Literal["json", MaskFormat] = Field(
        default="json",
        description="`json`: classes and mask of every image; `png`: the mask of the one image, "
        "its pixel values are the classes; `overlay`: a JPEG of the image tinted with the classes' "
        "colours, above a legend",
    )


class CompareQuery(InputQuery):
    """What `POST /v1/compare` may be asked."""

    models: str | None = Field(
        default=None,
        description="names of `GET /v1/models`, with commas between them, all for one task; by "
        "default all for the task of the first",
        examples=["vim-tiny,deit-tiny"],
    )


class Prediction(BaseModel):
    """A class and its probability among all classes."""

    index: int
    label: str
    score: float = Field(ge=0, le=1)


class ModelInput(BaseModel):
    """What the model saw of an image."""

    height: int = Field(description="pixels")
    width: int = Field(description="pixels")
    tokens: int = Field(description="length of its sequence, class tokens included")


class ClassifyResult(BaseModel):
    """The answer for one image."""

    file: str | None = Field(default=None, description="name of the upload, in a multipart request")
    predictions: list[Prediction] = Field(description="likeliest first")
    input: ModelInput


class Timing(BaseModel):
    """Where the time of a request went, in milliseconds."""

    decode: float = Field(description="decode, resize and cut into patches")
    queue: float = Field(description="wait for the device")
    inference: float = Field(description="the batches that carried the images, summed")
    postprocess: float
    total: float = Field(description="from the head of the request, upload included")


class BatchInfo(BaseModel):
    """What the device ran at once, other clients' images included.

    If the images of a request rode in several batches, their sum, and of the peaks the highest.
    """

    images: int
    tokens: int
    peak_memory_bytes: int = Field(
        description="how far the device's memory rose above what the models hold; on a CPU how "
        "far the process had grown since it was last idle"
    )


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


class SegmentedClass(BaseModel):
    """A class and how much of an image it has."""

    index: int
    label: str
    pixels: int
    fraction: float = Field(ge=0, le=1)


class SegmentResult(BaseModel):
    """The answer for one image."""

    file: str | None = Field(default=None, description="name of the upload, in a multipart request")
    height: int = Field(description="of the image and the mask, in pixels")
    width: int = Field(description="of the image and the mask, in pixels")
    classes: list[SegmentedClass] = Field(description="those that the image has, the largest first")
    mask: str = Field(
        description="a PNG in base64; its pixel values are the classes, its palette their colours"
    )
    input: ModelInput
    windows: int = Field(description="parts in which the model saw the image")


class SegmentResponse(BaseModel):
    """A class for every pixel of every image of the request, in its order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "demo-seg",
                "results": [
                    {
                        "height": 1248,
                        "width": 1248,
                        "classes": [
                            {
                                "index": 0,
                                "label": "background",
                                "pixels": 1_243_812,
                                "fraction": 0.7986,
                            },
                            {"index": 11, "label": "dog", "pixels": 313_692, "fraction": 0.2014},
                        ],
                        "mask": "iVBORw0KGgo…",
                        "input": {"height": 1248, "width": 1248, "tokens": 6084},
                        "windows": 1,
                    }
                ],
                "timing_ms": {
                    "decode": 21.3,
                    "queue": 0.3,
                    "inference": 702.4,
                    "postprocess": 14.8,
                    "total": 741.0,
                },
                "batch": {"images": 1, "tokens": 6084, "peak_memory_bytes": 96_468_992},
            }
        }
    )

    model: str
    results: list[SegmentResult]
    timing_ms: Timing
    batch: BatchInfo


class Compared(BaseModel):
    """What one of the models took for the images."""

    memory_bytes: int = Field(
        description="predicted peak above the weights for these images alone, from measurements "
        "at start-up"
    )


class ComparedClassifier(Compared, ClassifyResponse):
    """What one of the models made of the images."""


class ComparedSegmenter(Compared, SegmentResponse):
    """What one of the models made of the images."""


class CompareResponse(BaseModel):
    """The same images through several models, one model after another."""

    compared: list[ComparedClassifier] | list[ComparedSegmenter]


class TransformInfo(BaseModel):
    """What happens to an image that comes without `resolution` and `fit`."""

    resolution: int | Literal["native"]
    fit: Fit
    crop_ratio: float = Field(description="`crop`: part of the shorter side that is kept")
    multiple: int = Field(description="sides are rounded to multiples of it")
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class ModelInfo(BaseModel):
    """A model that is served."""

    name: str
    status: str = Field(description="`loading`, `ready` or `failed`")
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


class HealthQuery(BaseModel):
    """What `GET /healthz` may be asked; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid")

    probe: bool = Field(
        default=False, description="also run an image through every model that is ready"
    )


class Health(BaseModel):
    """Whether the server can answer at all."""

    status: Literal["alive", "dead"]
    detail: str


class ModelStatus(BaseModel):
    """Where a model is in its life."""

    status: str = Field(description="`loading`, `ready` or `failed`")
    detail: str | None = Field(default=None, description="why it failed")


class Readiness(BaseModel):
    """Whether requests for inference are answered."""

    status: str = Field(description="`loading`, `ready`, `stopping` or `failed`")
    models: dict[str, ModelStatus]


class Problem(BaseModel):
    """A failure (RFC 9457): what was wrong, what is accepted and what was found."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:vimserve:problem:invalid-parameter",
                "title": "Invalid parameter",
                "status": 422,
                "detail": "top_k must be at most 1000, the number of classes, not 2000",
                "parameter": "top_k",
                "limit": 1000,
                "value": 2000,
                "request_id": "0b0f5d9c1c2f4f0e8a4e2d6f3f0d6a11",
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    parameter: str | None = Field(
        default=None, description="query parameter, header or form field at fault"
    )
    limit: Any = Field(default=None, description="what is accepted: a bound, or the choices")
    value: Any = Field(default=None, description="what the request had")
    file: str | None = Field(
        default=None, description="the upload at fault, in a multipart request"
    )
    retry_after_s: int | None = Field(
        default=None, description="seconds after which the same request may succeed, as Retry-After"
    )
    request_id: str | None = Field(
        default=None, description="name of the request in the server's log, as X-Request-Id"
    )

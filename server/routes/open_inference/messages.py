"""The JSON of an inference: what a request may have, and what an answer has."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vimserve.server.routes.documents import IMAGE_BASE64

# More than any tensor here has, and far below what overflows.
MOST_DIMENSIONS, LONGEST_DIMENSION = 8, 2**31 - 1

Shape = Annotated[
    list[Annotated[int, Field(strict=True, ge=0, le=LONGEST_DIMENSION)]],
    Field(max_length=MOST_DIMENSIONS),
]
InputType = Literal["BYTES", "UINT8", "FP32"]
DataType = Literal["BYTES", "UINT8", "INT32", "FP32"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TensorParameters(_Message):
    """How an input's data comes."""

    binary_data_size: int | None = Field(
        default=None, ge=0, strict=True, description="bytes of its data, which follow the JSON"
    )


class InputTensor(_Message):
    """An input: `data` is nested or flat, row-major, or it follows the JSON as bytes."""

    name: Literal["image"]
    shape: Shape = Field(examples=[[1], [1, 224, 224, 3]])
    datatype: InputType = Field(
        description="`BYTES` `[n]`: image files, in JSON as base64; `UINT8` `[n, H, W, 3]`: "
        "pixels; `FP32` `[n, 3, H, W]`: what the model takes, normalised"
    )
    parameters: TensorParameters = Field(default_factory=TensorParameters)
    data: Any = Field(default=None, description="values, or texts in base64 for `BYTES`")


class OutputParameters(_Message):
    """How an output is wanted."""

    binary_data: bool | None = Field(
        default=None, strict=True, description="as bytes behind the JSON; overrides the request's"
    )
    classification: int = Field(
        default=0,
        ge=0,
        strict=True,
        description="so many classes as `value:index:label`, the highest first, instead of values",
    )


class WantedOutput(_Message):
    """An output that is wanted."""

    name: str
    parameters: OutputParameters = Field(default_factory=OutputParameters)


class InferRequest(_Message):
    """Images for a model."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "42",
                "inputs": [
                    {"name": "image", "shape": [1], "datatype": "BYTES", "data": [IMAGE_BASE64]}
                ],
                "outputs": [{"name": "scores", "parameters": {"classification": 3}}],
            }
        }
    )

    id: str | None = Field(default=None, strict=True, description="repeated in the answer")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="`priority` (1 is served first, 9 last; 0 is the default), `timeout` "
        "(microseconds), `binary_data_output`, and what `POST /v1/classify`, `POST /v1/segment` "
        "and `POST /v1/detect` call `resolution`, `fit`, `range`, `bands`, `mode`, `window`, "
        "`score_threshold` and `max_detections`",
    )
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[WantedOutput] | None = Field(
        default=None,
        max_length=16,
        description="by default all that the model has, but not the `scores` of one that segments",
    )


class OutputTensor(BaseModel):
    """An output: its data is here, or so many bytes behind the JSON."""

    name: str
    shape: list[int]
    datatype: DataType
    parameters: dict[str, int] | None = Field(default=None, examples=[{"binary_data_size": 28}])
    data: list[float | int | str] | None = None


class InferResponse(BaseModel):
    """What the model made of the images."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model_name": "demo",
                "model_version": "1",
                "id": "42",
                "outputs": [
                    {
                        "name": "scores",
                        "shape": [1, 3],
                        "datatype": "BYTES",
                        "data": ["0.912:3:dog", "0.0129:5:house", "0.0088:0:cat"],
                    }
                ],
            }
        }
    )

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]

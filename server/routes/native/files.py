"""Schemas of the files that ``format`` asks for and that are JSON."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Point = tuple[float, float]


class CocoImage(BaseModel):
    """The one image."""

    id: int
    file_name: str
    height: int
    width: int


class RunLengths(BaseModel):
    """A mask, run-length encoded as pycocotools does it."""

    size: tuple[int, int] = Field(description="height and width")
    counts: str


class CocoAnnotation(BaseModel):
    """Where a class, or an object, is."""

    id: int
    image_id: int
    category_id: int = Field(description="the class's index")
    segmentation: RunLengths | None = Field(
        default=None, description="absent of an object whose mask is not known"
    )
    area: float = Field(description="pixels of the mask, or of the box where there is none")
    bbox: tuple[float, float, float, float] = Field(description="left, top, width, height")
    iscrowd: int
    score: float | None = Field(default=None, description="of an object")


class CocoCategory(BaseModel):
    """A class."""

    id: int
    name: str


class CocoDataset(BaseModel):
    """A dataset of one image, with an annotation for each class or object."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "images": [{"id": 1, "file_name": "image", "height": 2, "width": 2}],
                "annotations": [
                    {
                        "id": 1,
                        "image_id": 1,
                        "category_id": 11,
                        "segmentation": {"size": [2, 2], "counts": "04"},
                        "area": 4,
                        "bbox": [0.0, 0.0, 2.0, 2.0],
                        "iscrowd": 0,
                    }
                ],
                "categories": [{"id": 0, "name": "background"}, {"id": 11, "name": "dog"}],
            }
        }
    )

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


class Polygon(BaseModel):
    """The outline of a region, then those of its holes, in pixels from the upper left corner."""

    type: Literal["Polygon"]
    coordinates: list[list[Point]]


class MultiPolygon(BaseModel):
    """The regions of a mask, each as in a Polygon; none where the mask is empty."""

    type: Literal["MultiPolygon"]
    coordinates: list[list[list[Point]]]


class Classification(BaseModel):
    """A class as QuPath reads it."""

    name: str
    color: tuple[int, int, int] = Field(description="red, green, blue")


class RegionProperties(BaseModel):
    """What is known of a region."""

    objectType: Literal["annotation"]  # noqa: N815, QuPath's name
    classification: Classification
    index: int = Field(description="the class's")
    pixels: int


class Region(BaseModel):
    """A connected region of one class."""

    type: Literal["Feature"]
    geometry: Polygon
    properties: RegionProperties


class FeatureCollection(BaseModel):
    """A polygon for each connected region."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "FeatureCollection",
                "features": [
                    {
                        "type": "Feature",
                        "geometry": {
                            "type": "Polygon",
                            "coordinates": [[[0, 0], [0, 2], [2, 2], [2, 0], [0, 0]]],
                        },
                        "properties": {
                            "objectType": "annotation",
                            "classification": {"name": "dog", "color": [64, 0, 128]},
                            "index": 11,
                            "pixels": 4,
                        },
                    }
                ],
            }
        }
    )

    type: Literal["FeatureCollection"]
    features: list[Region]


class Measurements(BaseModel):
    """Numbers as QuPath reads them."""

    score: float


class ObjectProperties(BaseModel):
    """What is known of an object."""

    objectType: Literal["detection"]  # noqa: N815, QuPath's name
    classification: Classification
    measurements: Measurements
    index: int = Field(description="the class's")
    pixels: int | None = Field(default=None, description="of its mask")


class DetectedObject(BaseModel):
    """An object: the regions of its mask, or its box where it has none or an empty one."""

    type: Literal["Feature"]
    geometry: Polygon | MultiPolygon
    properties: ObjectProperties


class ObjectCollection(BaseModel):
    """A feature for each object, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "FeatureCollection",
                "features": [
                    {
                        "type": "Feature",
                        "geometry": {
                            "type": "MultiPolygon",
                            "coordinates": [[[[0, 0], [0, 2], [2, 2], [2, 0], [0, 0]]]],
                        },
                        "properties": {
                            "objectType": "detection",
                            "classification": {"name": "dog", "color": [64, 0, 128]},
                            "measurements": {"score": 0.97},
                            "index": 11,
                            "pixels": 4,
                        },
                    }
                ],
            }
        }
    )

    type: Literal["FeatureCollection"]
    features: list[DetectedObject]

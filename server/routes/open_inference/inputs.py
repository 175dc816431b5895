"""From an input tensor to images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vimserve.model.spec import ModelSpec
from vimserve.server.errors import TooManyImages
from vimserve.server.images.arrays import NormalisedImage, PixelArray
from vimserve.server.images.source import EncodedImage, Source
from vimserve.server.routes.errors import MalformedRequest
from vimserve.server.routes.json_body import read_base64
from vimserve.server.routes.open_inference.binary import read_elements
from vimserve.server.routes.open_inference.messages import InputTensor

# What the dimensions of a tensor must be; a text stands for any number.
SHAPES: dict[str, tuple[str | int, ...]] = {
    "BYTES": ("n",),
    "UINT8": ("n", "H", "W", 3),
    "FP32": ("n", 3, "H", "W"),
}
DTYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
# Normalised values may lie so many times as far from zero as those of black and white.
NORMALISED_SLACK = 10


def read_images(
    tensor: InputTensor, blob: memoryview, spec: ModelSpec, max_images: int
) -> list[Source]:
    """The images of the tensor.

    Args:
        tensor: the input.
        blob: the bytes behind the JSON.
        spec: the model that they are for.
        max_images: most images in a request.

    Raises:
        MalformedRequest: the shape, the type or the size of the data is wrong, or a side of a
            normalised image does not fit the model.
        TooManyImages: there are more than ``max_images``.
    """
    _check_shape(tensor)
    count = tensor.shape[0]
    if count > max_images:
        raise TooManyImages(
            f"the tensor has {count} images, more than the {max_images} accepted",
            limit=max_images,
            value=count,
            parameter="image",
        )
    data = _binary(tensor, blob)
    names = [f"image {i}" if count > 1 else None for i in range(count)]
    if tensor.datatype == "BYTES":
        files = read_elements(data, count) if data is not None else _texts(tensor)
        return [EncodedImage(file, name) for file, name in zip(files, names, strict=True)]
    array = _from_bytes(tensor, data) if data is not None else _from_json(tensor)
    if tensor.datatype == "UINT8":
        return [PixelArray(one, name) for one, name in zip(array, names, strict=True)]
    _check_sides(tensor, spec)
    largest = _largest(spec)
    return [NormalisedImage(one, largest, name) for one, name in zip(array, names, strict=True)]


def raw_image(body: memoryview) -> list[Source]:
    """The one image of a body without JSON."""
    return [EncodedImage(bytes(body))]


def _check_shape(tensor: InputTensor) -> None:
    wanted, shape = SHAPES[tensor.datatype], tensor.shape
    fits = len(shape) == len(wanted) and all(
        side == want or (isinstance(want, str) and side > 0)
        for side, want in zip(shape, wanted, strict=True)
    )
    if not fits:
        form = ", ".join(map(str, wanted))
        raise MalformedRequest(
            f"the shape of an image of type {tensor.datatype} must be [{form}], none of them 0, "
            f"not {shape}",
            parameter="image",
            limit=f"[{form}]",
            value=shape,
        )


def _check_sides(tensor: InputTensor, spec: ModelSpec) -> None:
    height, width = tensor.shape[2:]
    stride = spec.transform.multiple
    least = max(spec.config.patch_size, spec.transform.minimum)
    if height % stride or width % stride or min(height, width) < least:
        raise MalformedRequest(
            f"the sides of a normalised image must be multiples of {stride}, from {least} on, for "
            f"model {spec.name!r}, not {height}x{width}: it is not resized; send its pixels as "
            "UINT8 for that",
            parameter="image",
            limit=stride,
            value=f"{height}x{width}",
        )


def _largest(spec: ModelSpec) -> float:
    pairs = zip(spec.config.pixel_mean, spec.config.pixel_std, strict=True)
    return NORMALISED_SLACK * max(max(mean, 1 - mean) / std for mean, std in pairs)


def _binary(tensor: InputTensor, blob: memoryview) -> memoryview | None:
    """The tensor's bytes behind the JSON, or None if its data is in the JSON."""
    size = tensor.parameters.binary_data_size
    given = "data" in tensor.model_fields_set
    if given == (size is not None):
        raise MalformedRequest(
            "the input must have either data or binary_data_size, not "
            f"{'both' if given else 'neither'}",
            parameter="image",
            limit="data or binary_data_size",
            value="both" if given else "neither",
        )
    if (size or 0) != len(blob):
        raise MalformedRequest(
            f"the input has {size or 0} bytes of binary data, but {len(blob)} bytes follow the "
            "JSON",
            parameter="binary_data_size",
            limit=len(blob),
            value=size,
        )
    return None if size is None else blob


def _from_bytes(tensor: InputTensor, data: memoryview) -> np.ndarray[Any, Any]:
    dtype = DTYPES[tensor.datatype]
    wanted = math.prod(tensor.shape) * dtype.itemsize
    if len(data) != wanted:
        raise MalformedRequest(
            f"a tensor of type {tensor.datatype} and shape {tensor.shape} has {wanted} bytes, not "
            f"{len(data)}",
            parameter="binary_data_size",
            limit=wanted,
            value=len(data),
        )
    return np.frombuffer(data, dtype).reshape(tensor.shape)


def _from_json(tensor: InputTensor) -> np.ndarray[Any, Any]:
    try:
        values = np.asarray(tensor.data)
    except ValueError as error:
        raise _not_numbers(tensor, "lists of different lengths") from error
    if values.dtype.kind not in ("i", "u") + (("f",) if tensor.datatype == "FP32" else ()):
        raise _not_numbers(tensor, "values of another type")
    if tensor.datatype == "UINT8" and values.size and not 0 <= values.min() <= values.max() <= 255:
        raise _not_numbers(tensor, f"{values.min()} to {values.max()}")
    shape = tuple(tensor.shape)
    if values.shape not in (shape, (math.prod(shape),)):
        raise _not_numbers(tensor, f"data of shape {list(values.shape)}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused with its value
        return values.astype(DTYPES[tensor.datatype]).reshape(shape)


def _not_numbers(tensor: InputTensor, found: str) -> MalformedRequest:
    kind = "whole numbers from 0 to 255" if tensor.datatype == "UINT8" else "numbers"
    return MalformedRequest(
        f"data of type {tensor.datatype} must be {kind}, flat or in the shape {tensor.shape}, not "
        f"{found}",
        parameter="data",
        limit=kind,
        value=found,
    )


def _texts(tensor: InputTensor) -> Sequence[bytes]:
    data, (count,) = tensor.data, tensor.shape
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise MalformedRequest(
            "data of type BYTES must be a list of texts in base64", parameter="data", limit="base64"
        )
    if len(data) != count:
        raise MalformedRequest(
            f"data must have {count} texts, as the shape says, not {len(data)}",
            parameter="data",
            limit=count,
            value=len(data),
        )
    return [read_base64(text, "data") for text in data]

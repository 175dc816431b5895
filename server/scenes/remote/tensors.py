"""Messages of the Open Inference Protocol: a picture to a request, an answer to arrays."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json

from vimserve.server.routes.open_inference.binary import HEADER, join, read_elements, split
from vimserve.server.routes.open_inference.messages import InferResponse, OutputTensor
from vimserve.server.scenes.join import RGB

Array = np.ndarray[Any, Any]
Tensors = Mapping[str, Array]

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT32": np.dtype("<i4"),
    "FP32": np.dtype("<f4"),
}


def request_of(
    picture: RGB, outputs: Sequence[str], parameters: Mapping[str, Any]
) -> tuple[bytes, dict[str, str]]:
    """A body that asks for some outputs as bytes, and its headers."""
    message = {
        "parameters": parameters,
        "inputs": [
            {
                "name": "image",
                "datatype": "UINT8",
                "shape": [1, *picture.shape],
                "parameters": {"binary_data_size": picture.nbytes},
            }
        ],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
    }
    return join(to_json(message), [picture.tobytes()])


def read_answer(body: bytes, headers: Mapping[str, str]) -> Tensors:
    """The output tensors of an answer by name; BYTES are arrays of ``bytes``.

    Raises:
        ValueError: it is not what the protocol says, or not all there.
        MalformedRequest: likewise.
    """
    text, rest = split(body, headers.get(HEADER))
    tensors = {}
    for output in InferResponse.model_validate_json(bytes(text)).outputs:
        size = (output.parameters or {}).get("binary_data_size", 0)
        if not 0 <= size <= len(rest):
            raise ValueError(f"output {output.name!r} has {size} bytes, of which {len(rest)} came")
        tensors[output.name], rest = _read(output, rest[:size]), rest[size:]
    if rest:
        raise ValueError(f"{len(rest)} bytes follow its last output")
    return tensors


def take(tensors: Tensors, name: str, kind: str, shape: Sequence[int | None]) -> Array:
    """An output of a type and a shape, of which None is any number.

    Raises:
        ValueError: there is none.
    """
    found = tensors.get(name)
    if found is None:
        raise ValueError(f"it has no output {name!r}")
    fits = found.ndim == len(shape) and all(
        want in (None, side) for side, want in zip(found.shape, shape, strict=True)
    )
    if found.dtype.kind != kind or not fits:
        form = ", ".join("n" if side is None else str(side) for side in shape)
        raise ValueError(
            f"output {name!r} must have the shape [{form}], not {found.dtype} {[*found.shape]}"
        )
    return found


def _read(output: OutputTensor, data: memoryview) -> Array:
    shape = output.shape
    if min(shape, default=0) < 0:
        raise ValueError(f"output {output.name!r} has the shape {shape}")
    count = math.prod(shape)
    if output.datatype == "BYTES":
        read = read_elements(data, count)
        elements = np.empty(len(read), object)
        elements[:] = read
        return elements.reshape(shape)
    dtype = _DTYPES[output.datatype]
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"output {output.name!r} of shape {shape} has {len(data)} bytes")
    # A copy, because what lies behind text need not lie where numbers of four bytes may.
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))

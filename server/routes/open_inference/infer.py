"""``POST /v2/models/{model}/infer``."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from vimserve.model.spec import ModelSpec
from vimserve.server.config import ServerConfig
from vimserve.server.engine.urgency import Urgency
from vimserve.server.http.encodings import accepted_coding, encode
from vimserve.server.http.openapi import json_schema
from vimserve.server.http.uploads import read_body
from vimserve.server.http.waiting import receive
from vimserve.server.images.source import OfOneSize, Source
from vimserve.server.routes.answering import ask, loaded_model, run
from vimserve.server.routes.dependencies import RequestUrgency, Service, admitted
from vimserve.server.routes.documents import BINARY, PLAIN_ERRORS
from vimserve.server.routes.errors import MalformedRequest
from vimserve.server.routes.json_body import parse_json
from vimserve.server.routes.open_inference.binary import HEADER, join, split
from vimserve.server.routes.open_inference.inputs import raw_image, read_images
from vimserve.server.routes.open_inference.messages import (
    InferRequest,
    InferResponse,
    WantedOutput,
)
from vimserve.server.routes.open_inference.outputs import (
    MASKS,
    SCORES,
    Output,
    render,
    wanted_outputs,
)
from vimserve.server.routes.open_inference.parameters import OWN, Parameters, read_parameters
from vimserve.server.routes.open_inference.paths import (
    PREFIX,
    UNKNOWN,
    VERSION,
    ModelName,
    of_model,
)
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.segment import Segment
from vimserve.server.tasks.task import Plan

# What a normalised image leaves no choice of.
CHOSEN = {"resolution": "native", "fit": "contain"}
DECODED = ("range", "bands")
# A smaller answer is written and compressed in less time than another thread takes to begin.
FEW_BYTES = 65_536

DOCUMENT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"JSON; with the header `{HEADER}`, the length of the JSON, the bytes of "
        "the input follow it; if that is 0, the body is an image file. `Content-Encoding: gzip` "
        "and `deflate` are decoded.",
        "content": {
            "application/json": {"schema": json_schema(InferRequest)},
            "application/octet-stream": BINARY,
        },
    },
}
LENGTH_HEADER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "length of the JSON in bytes, if the input's bytes follow it",
    "schema": {"type": "integer", "minimum": 0, "examples": [118]},
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"The outputs; with the header `{HEADER}`, the bytes of some follow the "
        "JSON. Compressed if `Accept-Encoding` has `gzip` or `deflate`.",
        "content": {"application/octet-stream": BINARY},
    },
    **PLAIN_ERRORS,
    **UNKNOWN,
}

router = APIRouter(prefix=PREFIX)


@dataclass(frozen=True)
class Asked:
    """What a body asks of a model.

    Attributes:
        images: of the input.
        plan: how the model answers.
        outputs: those that are wanted.
        urgency: deadline and priority.
        request_id: what the client called it.
        binary: whether outputs are bytes behind the JSON unless they say otherwise.
    """

    images: Sequence[Source]
    plan: Plan[Any]
    outputs: Sequence[tuple[Output, WantedOutput]]
    urgency: Urgency
    request_id: str | None
    binary: bool


@of_model(
    router.post,
    "/infer",
    response_model=InferResponse,
    responses=RESPONSES,
    openapi_extra={**DOCUMENT, "parameters": [LENGTH_HEADER]},
    dependencies=[Depends(admitted)],
)
async def infer(
    request: Request, pipeline: Service, urgency: RequestUrgency, model: ModelName
) -> Response:
    """Classify or segment images, or find the objects in them, whichever the model can."""
    loaded = loaded_model(request, pipeline, model)
    spec = loaded.runner.spec
    body = await receive(read_body(request, pipeline.config.max_body_bytes), urgency)
    asked = read(body, request.headers.get(HEADER), spec, urgency, pipeline.config)
    completed = await run(
        request, pipeline, loaded, asked.plan, asked.images, asked.urgency,
        lambda _measured, result: result,
    )  # fmt: skip

    def answer() -> Response:
        json, blobs = render(
            spec, VERSION, asked.request_id, asked.outputs, completed.results, binary=asked.binary
        )
        return _response(json, blobs, request.headers.get("accept-encoding", ""))

    pixels = sum(math.prod(one.image_size) for one in completed.measured)
    large = spec.task != "classify" and pixels >= FEW_BYTES
    return await asyncio.to_thread(answer) if large else answer()


def read(
    body: bytearray, length: str | None, spec: ModelSpec, urgency: Urgency, config: ServerConfig
) -> Asked:
    """What a body asks of a model.

    Args:
        body: of the request, without its coding.
        length: value of the header with the length of the JSON, if there is one.
        spec: the model.
        urgency: what the request's headers say.
        config: the limits.

    Raises:
        BadRequest: it is not what the protocol says, or the model cannot answer it.
    """
    text, blob = split(body, length)
    if length is not None and not text:
        parameters = Parameters(urgency, binary_output=True, query={})
        images, normalised, request_id, wanted = raw_image(blob), False, None, None
    else:
        message = parse_json(text, InferRequest)
        parameters = read_parameters(message.parameters, urgency)
        (tensor,) = message.inputs
        images = read_images(tensor, blob, spec, config.max_images)
        normalised, request_id = tensor.datatype == "FP32", message.id
        wanted = message.outputs
    outputs = wanted_outputs(spec, wanted, images=len(images), binary=parameters.binary_output)
    task = TASKS[spec.task]
    given = _given(parameters.query, normalised=normalised)
    query = ask(task, given, OWN, without=("top_k", "masks"))
    names = [output.name for output, _ in outputs]
    if MASKS in names:
        query = query.model_copy(update={"masks": "rle"})
    if "mask" in names:
        sizes: set[tuple[int, int]] = set()
        images = [OfOneSize(image, sizes) for image in images]
    return Asked(
        images,
        _plan(spec, query, config.max_resolution, names),
        outputs,
        parameters.urgency,
        request_id,
        parameters.binary_output,
    )


def _plan(spec: ModelSpec, query: Any, max_resolution: int, outputs: Sequence[str]) -> Plan[Any]:
    task = TASKS[spec.task]
    if isinstance(task, Segment) and SCORES in outputs:
        plan = task.scored_plan if "mask" in outputs else task.raw_plan
        return plan(spec, query, max_resolution)
    return task.plan(spec, query, max_resolution)


def _given(query: Mapping[str, Any], *, normalised: bool) -> Mapping[str, Any]:
    if not normalised:
        return query
    for name in (*CHOSEN, *DECODED):
        if name in query:
            raise MalformedRequest(
                f"parameter {name} is for images that are not normalised yet", parameter=name
            )
    return {**query, **CHOSEN}


def _response(json: bytes, blobs: Sequence[bytes], accept_encoding: str) -> Response:
    body, headers = join(json, blobs)
    headers["Vary"] = "Accept-Encoding"
    if coding := accepted_coding(accept_encoding):
        coded = encode(body, coding)
        if len(coded) < len(body):
            body, headers["Content-Encoding"] = coded, coding
    media_type = "application/octet-stream" if blobs else "application/json"
    return Response(body, headers=headers, media_type=media_type)

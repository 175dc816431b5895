"""The OpenAPI document's part for routes that take images: request body and errors."""

from typing import Any

from vimserve.server.errors import (
    BodyTooLarge,
    CorruptImage,
    EmptyBody,
    ImageTooLarge,
    InvalidParameter,
    MalformedEncoding,
    MalformedMultipart,
    ModelFailure,
    ModelUnavailable,
    NotReady,
    QueueFull,
    RequestTimeout,
    TooLate,
    UnknownModel,
    UnsupportedEncoding,
    UnsupportedImage,
    UploadTimeout,
    WrongTask,
)
from vimserve.server.http.openapi import refusal
from vimserve.server.routes.errors import MalformedRequest

BINARY = {"schema": {"type": "string", "format": "binary"}}
# A PNG of 16×16 pixels, sky above grass.
IMAGE_BASE64 = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0iAAAABlBMVEV4tNxaeDxicbqJAAAAEklEQVR42mNgwAkY/zMwMaAj"
    "ABSvAQ2eFPURAAAAAElFTkSuQmCC"
)
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of an image (JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF; the format "
        "is read from the bytes, not from the Content-Type), or a form with one or more files. "
        "`Content-Encoding: gzip` and `deflate` are decoded.",
        "content": {
            "image/*": BINARY,
            "application/octet-stream": BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                },
                "encoding": {"file": {"contentType": "image/*"}},
            },
        },
    }
}
NO_MODEL = UnknownModel(
    "no model 'resnet' is served; choose one of demo, demo-seg",
    parameter="model",
    limit=["demo", "demo-seg"],
    value="resnet",
)
WRONG_VALUE = InvalidParameter(
    "resolution must be 'native' or a whole number of pixels from 1 to 1248, not '4000'",
    parameter="resolution",
    limit=1248,
    value=4000,
)
LARGE_IMAGE = ImageTooLarge(
    "the image has 96000000 pixels, more than the 50000000 accepted",
    limit=50_000_000,
    value=96_000_000,
)
NO_ROOM_IN_QUEUE = (
    QueueFull(
        "130000 tokens wait for model 'demo'; with this request there would be 136085, more "
        "than the limit of 131072",
        limit=131_072,
        value=136_085,
        retry_after_s=9,
    ),
    TooLate(
        "the answer may take 2.61 s, because what goes before it takes 2.2 s; the request "
        "waits for 2 s",
        limit=2,
        value=2.61,
        retry_after_s=1,
    ),
)
_DAMAGED = CorruptImage(
    "the JPEG is truncated or damaged (4096 bytes received)",
    limit="a complete JPEG",
    value="4096 bytes",
)
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: refusal(
        "The multipart body is malformed, or not what Content-Encoding says",
        MalformedMultipart(
            "the multipart body cannot be read: it ends too early",
            limit="multipart/form-data (RFC 7578)",
            value="it ends too early",
        ),
        MalformedEncoding(
            "the body cannot be decoded as its Content-Encoding, gzip: it ends too early",
            parameter="Content-Encoding",
            limit="gzip",
            value="it ends too early",
        ),
    ),
    404: refusal("No such model", NO_MODEL),
    408: refusal(
        "The body did not arrive in time",
        UploadTimeout("the body did not arrive within 60 s", limit=60, value=60),
    ),
    409: refusal(
        "The model does something else",
        WrongTask(
            "model 'demo' classifies; it cannot segment: demo-seg can",
            parameter="model",
            limit=["demo-seg"],
            value="demo",
        ),
    ),
    413: refusal(
        "Too many bytes, pixels, tokens, images or form fields",
        BodyTooLarge(
            "the body has at least 40000000 bytes; the limit is 33554432",
            limit=33_554_432,
            value=40_000_000,
        ),
        LARGE_IMAGE,
    ),
    415: refusal(
        "Not an image in a supported format, or another Content-Encoding",
        UnsupportedImage(
            "the bytes are not an image in one of the formats JPEG, PNG, WEBP, BMP, TIFF, GIF, "
            "AVIF",
            limit=["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"],
            value="hello",
        ),
        UnsupportedEncoding(
            "a body with Content-Encoding: br is not decoded; send it as gzip, as deflate, or "
            "without a coding",
            parameter="Content-Encoding",
            limit=UnsupportedEncoding.accepted,
            value="br",
        ),
    ),
    422: refusal(
        "A wrong parameter, an empty body, a damaged image",
        WRONG_VALUE,
        EmptyBody("the body is empty; send the bytes of an image", limit=1, value=0),
        _DAMAGED,
    ),
    429: refusal(
        "The queue is full, or the answer would come too late; see Retry-After",
        *NO_ROOM_IN_QUEUE,
    ),
    500: refusal("The model or the server failed", ModelFailure("the model failed: RuntimeError")),
    503: refusal(
        "The models are loading, the server is stopping, or the device has no memory left; see "
        "Retry-After",
        NotReady("the server is loading", limit="ready", value="loading"),
        ModelUnavailable(
            "model 'demo' is loading", parameter="model", limit=["demo-seg"], value="demo"
        ),
    ),
    504: refusal("No answer in time", RequestTimeout("no answer within 60 s", limit=60, value=60)),
}
PLAIN_ERRORS: dict[int | str, dict[str, Any]] = {
    400: refusal(
        "The request is not what the protocol says, or the image is damaged",
        MalformedRequest("there is no parameter 'topk'"),
        _DAMAGED,
    ),
    **{status: PROBLEMS[status] for status in (404, 408, 413, 415, 429, 500, 503, 504)},
}

"""The OpenAPI document's part for routes that take images: request body and errors."""

from typing import Any

BINARY = {"schema": {"type": "string", "format": "binary"}}
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
                }
            },
        },
    }
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The multipart body is malformed, or not what Content-Encoding says"},
    404: {"description": "No such model"},
    408: {"description": "The body did not arrive in time"},
    409: {"description": "The model does something else"},
    413: {"description": "Too many bytes, pixels, tokens, images or form fields"},
    415: {"description": "Not an image in a supported format, or another Content-Encoding"},
    422: {"description": "A wrong parameter, an empty body, a damaged image"},
    429: {"description": "The queue is full, or the answer would come too late; see Retry-After"},
    500: {"description": "The model failed"},
    503: {"description": "The models are loading, or the server is stopping; see Retry-After"},
    504: {"description": "No answer in time"},
}
PLAIN_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is not what the protocol says, or the image is damaged"},
    **{status: PROBLEMS[status] for status in (404, 408, 413, 415, 429, 500, 503, 504)},
}

"""Every way in which a request can fail; each class owns its HTTP status.

ServerError
├── BadRequest (4xx: the request must change)
│   ├── InvalidParameter      422  a query parameter or header outside its range
│   ├── Unauthorized          401  no API key, or a wrong one
│   ├── UnknownModel          404
│   ├── WrongTask             409  the model has another task
│   ├── EmptyBody             422  no bytes
│   ├── MissingFile           422  multipart without a `file` field
│   ├── MalformedMultipart    400
│   ├── MalformedEncoding     400  not what Content-Encoding says
│   ├── UnsupportedEncoding   415  a Content-Encoding that we do not decode
│   ├── UnsupportedImage      415  a format that we do not read
│   ├── CorruptImage          422  truncated or damaged
│   ├── BodyTooLarge          413  too many bytes
│   ├── ImageTooLarge         413  too many pixels in the upload, or the model's input is too large
│   ├── ImageTooComplex       413  more scans, chunks or blocks than its size justifies
│   ├── TooManyImages         413
│   ├── TooManyParts          413  more fields in a form than anyone needs
│   └── UploadTimeout         408  the body did not arrive in time
├── Overloaded (the same request may succeed later)
│   ├── QueueFull             429
│   ├── TooLate               429  before its deadline there is not enough time left
│   ├── NotReady              503  loading or shutting down
│   ├── ModelUnavailable      503  this model is loading, failed to load or is being removed
│   ├── OutOfMemory           503  the image does not fit even alone
│   └── RequestTimeout        504
└── ModelFailure              500
"""

# ruff: noqa: N818, the names say what happened

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Self

from vimserve.server.telemetry import request_id

PROBLEM_JSON = "application/problem+json"
UNFORESEEN = "the server failed; its log says why"
# Keys of the accepted bound in pydantic's errors.
_BOUNDS = ("ge", "gt", "le", "lt", "expected")


class ServerError(Exception):
    """A failure that the client gets as an RFC 9457 problem.

    Args:
        detail: what happened, for a person.
        limit: what is accepted: a bound, or the list of choices.
        value: what the request had instead.
        parameter: the query parameter, header or form field at fault.
        retry_after_s: seconds after which to try again; by default that of the class.
    """

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    slug: ClassVar[str] = "internal-error"
    retry_after_s: int | None = None

    def __init__(
        self,
        detail: str,
        *,
        limit: Any = None,
        value: Any = None,
        parameter: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.value = value
        self.parameter = parameter
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        self.file: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the response has for this failure."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}

    def problem(self) -> dict[str, Any]:
        """The members of the response body."""
        detail = self.detail if self.file is None else f"{self.file}: {self.detail}"
        names = ("parameter", "limit", "value", "file", "retry_after_s")
        return problem(self.status, detail, self.slug) | {
            name: member for name in names if (member := getattr(self, name)) is not None
        }


def problem(status: int, detail: str, slug: str | None = None) -> dict[str, Any]:
    """The members that every problem has; without a ``slug`` its type is about:blank."""
    title = HTTPStatus(status).phrase if slug is None else slug.replace("-", " ").capitalize()
    kind = "about:blank" if slug is None else f"urn:vimserve:problem:{slug}"
    members = {"type": kind, "title": title, "status": int(status), "detail": detail}
    name = request_id.current.get()
    return members if name is None else members | {"request_id": name}


class BadRequest(ServerError):
    """The request must change before it can succeed."""

    status = HTTPStatus.BAD_REQUEST
    slug = "bad-request"


class InvalidParameter(BadRequest):
    """A query parameter or header has a value that is not accepted."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "invalid-parameter"

    @classmethod
    def of(cls, error: Mapping[str, Any]) -> Self:
        """Build it from one of pydantic's validation errors."""
        parameter, context = str(error["loc"][-1]), error.get("ctx", {})
        message = error["msg"]
        limit = next((context[bound] for bound in _BOUNDS if bound in context), None)
        if error["type"] == "extra_forbidden":
            message = "there is no such parameter"
        elif error["type"] == "bool_parsing":
            limit = [True, False]
        return cls(
            f"{parameter}: {message}", parameter=parameter, limit=limit, value=error["input"]
        )


class Unauthorized(BadRequest):
    """The request has no valid API key, and the server requires one."""

    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthorized"


class UnknownModel(BadRequest):
    """No model of that name is served."""

    status = HTTPStatus.NOT_FOUND
    slug = "unknown-model"


class WrongTask(BadRequest):
    """The model has another task than the request."""

    status = HTTPStatus.CONFLICT
    slug = "wrong-task"


class EmptyBody(BadRequest):
    """The body, or a file in it, has no bytes."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "empty-body"


class MissingFile(BadRequest):
    """The multipart body has no ``file`` field."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "missing-file"


class MalformedMultipart(BadRequest):
    """The multipart body violates its grammar."""

    slug = "malformed-multipart"


class MalformedEncoding(BadRequest):
    """The body is not what its Content-Encoding says."""

    slug = "malformed-encoding"


class UnsupportedEncoding(BadRequest):
    """The server does not decode this Content-Encoding."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-encoding"
    accepted: ClassVar[tuple[str, ...]] = ("gzip", "deflate")

    @property
    def headers(self) -> dict[str, str]:
        """What would have been decoded (RFC 9110, section 15.5.16)."""
        return {"Accept-Encoding": ", ".join(self.accepted)}


class UnsupportedImage(BadRequest):
    """The server does not read this image format or pixel layout."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-image"


class CorruptImage(BadRequest):
    """The bytes begin as an image, but are truncated or damaged."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "corrupt-image"


class BodyTooLarge(BadRequest):
    """The body has more bytes than the server accepts."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "body-too-large"


class ImageTooLarge(BadRequest):
    """The image has more pixels or tokens than the server accepts."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "image-too-large"


class ImageTooComplex(BadRequest):
    """The image's file has more parts than its size justifies; they would cost others time."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "image-too-complex"


class TooManyImages(BadRequest):
    """The request has more files than the server accepts."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "too-many-images"


class TooManyParts(BadRequest):
    """The form has more fields than the server reads."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "too-many-parts"


class UploadTimeout(BadRequest):
    """The client sent the body too slowly."""

    status = HTTPStatus.REQUEST_TIMEOUT
    slug = "upload-timeout"


class Overloaded(ServerError):
    """The server cannot answer now; the same request may succeed later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "overloaded"
    retry_after_s: int | None = 1


class QueueFull(Overloaded):
    """The model's queue has no room for the request."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "queue-full"


class TooLate(Overloaded):
    """With what waits already, the answer would come after the request's deadline."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "too-late"


class NotReady(Overloaded):
    """The models are loading, or the server is shutting down."""

    slug = "not-ready"


class ModelUnavailable(Overloaded):
    """This model cannot answer: it is loading, failed to load or is being removed."""

    slug = "model-unavailable"
    retry_after_s = None


class OutOfMemory(Overloaded):
    """The device has no memory for the image, even alone in a batch."""

    slug = "out-of-memory"


class RequestTimeout(Overloaded):
    """The answer was not ready in time."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    slug = "request-timeout"
    retry_after_s = None


class ModelFailure(ServerError):
    """The model raised an exception, or its scores are not finite."""

    slug = "model-failure"

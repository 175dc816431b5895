"""Failures that only requests of other protocols than our own can have."""

from http import HTTPStatus

from vimserve.server.errors import BadRequest, UnknownModel


class MalformedRequest(BadRequest):
    """The body or a header is not what the protocol says."""

    slug = "malformed-request"


class UnknownVersion(UnknownModel):
    """The model has no such version."""

    slug = "unknown-version"


class Forbidden(BadRequest):
    """The operator has not allowed this."""

    status = HTTPStatus.FORBIDDEN
    slug = "forbidden"

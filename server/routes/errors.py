"""Failures that only requests of other protocols than our own can have."""

from http import HTTPStatus

from vimserve.server.errors import BadRequest


class MalformedRequest(BadRequest):
    """The body or a header is not what the protocol says."""

    slug = "malformed-request"


class UnknownVersion(BadRequest):
    """The model has no such version."""

    status = HTTPStatus.NOT_FOUND
    slug = "unknown-version"


class Forbidden(BadRequest):
    """The operator has not allowed this."""

    status = HTTPStatus.FORBIDDEN
    slug = "forbidden"

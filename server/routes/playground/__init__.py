"""The playground at ``/``: a page on which to try the models, made of static files only."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Path
from fastapi.responses import Response

from vimserve.server.routes.playground.files import PREFIX, find, names

# What the page needs before it has an API key. `POST /` is Hugging Face's and is not among them.
PATHS = frozenset({"/", *(f"{PREFIX}{name}" for name in names())})

AcceptEncoding = Annotated[str, Header()]
IfNoneMatch = Annotated[str, Header()]

# These are no part of the API, so the OpenAPI document has none of them.
router = APIRouter(include_in_schema=False)


# Not async, because files are read, and small pictures made, when they are first asked for.
@router.get("/")
def page(accept_encoding: AcceptEncoding = "", if_none_match: IfNoneMatch = "") -> Response:
    """The page."""
    return find("index.html").response(accept_encoding, if_none_match)


@router.get(PREFIX + "{name:path}")
def file(
    name: Annotated[str, Path()],
    accept_encoding: AcceptEncoding = "",
    if_none_match: IfNoneMatch = "",
) -> Response:
    """A file that the page loads.

    Raises:
        HTTPException: 404 if there is none of that name.
    """
    if f"{PREFIX}{name}" not in PATHS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return find(name).response(accept_encoding, if_none_match)

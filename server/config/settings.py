"""How the values of single settings are written."""

import re
from typing import Annotated

from pydantic import AfterValidator

_SEGMENTS = re.compile(r"(/[\w.~-]+)*", re.ASCII)
_ORIGIN = re.compile(r"\*|https?://([a-z\d.-]+|\[[a-f\d:.]+\])(:\d+)?", re.IGNORECASE | re.ASCII)
# The names of a Compose file's services may have underscores.
HTTP_URL = re.compile(
    r"https?://([a-z\d._-]+|\[[a-f\d:.]+\])(:\d+)?(/[\w.~%/-]*)?", re.IGNORECASE | re.ASCII
)


def split_list(text: str) -> list[str]:
    """What stands between the commas, without the blanks around them and without empty items."""
    return [item.strip() for item in text.split(",") if item.strip()]


def split_models(text: str) -> list[str]:
    """The models of a list with commas, some of which may be in the options of a model.

    After ``NAME=FILE?option=`` a new model begins with its name: one of the catalog, or one in
    front of a ``=``. Everything else goes on with the option's value, such as ``1,3,5,7``.
    """
    models: list[str] = []
    for item in split_list(text):
        if models and "?" in models[-1] and not _begins_model(item):
            models[-1] += f",{item}"
        else:
            models.append(item)
    return models


def _begins_model(item: str) -> bool:
    name, assigned, _ = item.partition("=")
    if assigned:
        return "&" not in name
    from vimserve.model.catalog import names  # the import takes seconds, and few lists need it

    return name in names()


def _root_path(path: str) -> str:
    path = path.rstrip("/")
    if not _SEGMENTS.fullmatch(path):
        raise ValueError(
            "a prefix begins with a slash, as /vision, and has only A-Z a-z 0-9 . _ ~ -"
        )
    return path


def _origin(origin: str) -> str:
    """An origin in the form in which browsers send it, where it is compared letter by letter."""
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("an origin is SCHEME://HOST or SCHEME://HOST:PORT, without a path, or *")
    return origin.lower()


def _collector(url: str) -> str:
    if not HTTP_URL.fullmatch(url):
        raise ValueError(
            "a collector is http://HOST:PORT or https://HOST:PORT, with a path if it has one; keys "
            "for it are in the variable OTEL_EXPORTER_OTLP_HEADERS"
        )
    return url


RootPath = Annotated[str, AfterValidator(_root_path)]
Origin = Annotated[str, AfterValidator(_origin)]
Collector = Annotated[str, AfterValidator(_collector)]

"""Makes one answer of what several replicas say of their models."""

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

Merge = Callable[[Iterable[Any]], Any]


def models(answers: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Each model once, as a replica says that is ready for it, if one is."""
    found: dict[str, dict[str, Any]] = {}
    for one in (one for answer in answers for one in answer):
        if one["name"] not in found or _is_ready(one):
            found[one["name"]] = one
    return [*found.values()]


def listed(answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """``{"models": […]}`` of all."""
    return {"models": models(answer["models"] for answer in answers)}


def statistics(answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """``{"model_stats": […]}``, whose counts are the sums of all replicas'."""
    found: dict[str, Any] = {}
    for one in (one for answer in answers for one in answer["model_stats"]):
        name = one["name"]
        found[name] = _sum(found[name], one) if name in found else one
    return {"model_stats": [*found.values()]}


def merged(merge: Merge, bodies: Iterable[bytes]) -> bytes:
    """One body of several, all in JSON."""
    whole = merge([json.loads(body) for body in bodies])
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def _is_ready(model: Mapping[str, Any]) -> bool:
    return (model.get("status") or model.get("state", "")).lower() == "ready"


def _sum(one: Any, other: Any, name: str = "") -> Any:
    """Numbers are added, but the last of two times counts; nothing else differs."""
    if isinstance(one, dict):
        return {key: _sum(one[key], other[key], key) for key in one}
    if not isinstance(one, int | float):
        return one
    return max(one, other) if name.startswith("last_") else one + other


# What replicas say of different models: lists of models.
LISTS: Mapping[str, Merge] = MappingProxyType(
    {"/v1/models": listed, "/v2/repository/index": models}
)

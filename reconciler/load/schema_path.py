"""Walks the schema beside a file: which keys, words and description belong to a place in it.

Must not: look at values.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

from pydantic import BaseModel

Location = tuple[str | int, ...]


def keys_at(model: type[BaseModel], location: Location) -> list[str]:
    """Return the keys a mapping may have."""
    found = _unwrap(annotation_at(model, location))
    if isinstance(found, type) and issubclass(found, BaseModel):
        return [info.alias or name for name, info in found.model_fields.items()]
    return []


def description_at(model: type[BaseModel], location: Location) -> str:
    """Return what the schema says about a key, or nothing."""
    parent = _unwrap(annotation_at(model, location[:-1]))
    if isinstance(parent, type) and issubclass(parent, BaseModel):
        for name, info in parent.model_fields.items():
            if (info.alias or name) == location[-1]:
                return info.description or ""
    return ""


def annotation_at(model: type[BaseModel], location: Location) -> Any:
    """Return the type the schema expects at a place in the file."""
    found: Any = model
    for step in location:
        found = _unwrap(found)
        if isinstance(found, type) and issubclass(found, BaseModel):
            fields = {info.alias or name: info.annotation for name, info in found.model_fields.items()}
            found = fields.get(str(step))
        else:
            arguments = typing.get_args(found)
            found = arguments[1 if typing.get_origin(found) is dict else 0] if arguments else None
    return found


def _unwrap(found: Any) -> Any:
    """Return what is meant inside `X | None`, `Annotated[X, …]` and `X | Literal[…]`."""
    if typing.get_origin(found) is typing.Annotated:
        return _unwrap(typing.get_args(found)[0])
    if isinstance(found, types.UnionType) or typing.get_origin(found) is typing.Union:
        parts = [part for part in typing.get_args(found) if part is not type(None)]
        return _unwrap(parts[0])
    return found


def words_at(model: type[BaseModel], location: Location) -> tuple[Any, ...]:
    """Return the words a place in the file may hold; none where it is not a choice."""
    plain = _unwrap(annotation_at(model, location))
    return typing.get_args(plain) if typing.get_origin(plain) is Literal else ()

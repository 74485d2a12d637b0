"""The weights of a model on a host: what must be there before a service that needs them may start.

`ModelCheck` is what the host is told to look at, `ModelFault` what it finds wrong. The files lie on the host before a
transition begins: a swap must not start with a download.

Must not: know a runtime, or where a cache is when nobody says so (`model.runtimes`).
"""

from __future__ import annotations

import operator
import re
from typing import Literal

from pydantic import Field

from reconciler.model.base import Wire

Layout = Literal["files", "hub", "llama", "ollama"]

# The agent reads these names by itself (`agent.model_parts`).
_PART = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.(gguf|safetensors)", re.DOTALL)
_MOST_PARTS = 1000


class ModelCheck(Wire):
    """What to look at.

    `path` is the file or directory of a local model; with `hub` the directory of the cache, which has the layout of the
    hub itself, of llama.cpp's own cache, or of ollama's store. `memory`: the files must fit these bytes; 0 where their
    size says nothing about it. `chat`: a chat template must lie beside them, or at `template` where the server is given
    one. `fetch` is the command that gets the model. `beside` are the other places of the host that its container has
    at the same path.
    """

    path: str
    hub: str = Field(default="", exclude_if=operator.not_)
    revision: str = Field(default="", exclude_if=operator.not_)
    layout: Layout = "files"
    memory: int = Field(default=0, exclude_if=operator.not_)
    chat: bool = Field(default=False, exclude_if=operator.not_)
    template: str = Field(default="", exclude_if=operator.not_)
    fetch: str = Field(default="", exclude_if=operator.not_)
    beside: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)


class ModelFault(Wire):
    """What is wrong with the model of a unit."""

    unit: str
    code: str
    reason: str
    fix: str


def parts_of(path: str) -> tuple[str, ...]:
    """Return all files of a split model that is given by one of them (`…-00001-of-00005.gguf`), else the path alone."""
    found = _PART.fullmatch(path)
    if found is None or not 1 <= int(found[2]) <= int(found[3]) <= _MOST_PARTS:
        return (path,)
    return tuple(f"{found[1]}-{number:05}-of-{found[3]}.{found[4]}" for number in range(1, int(found[3]) + 1))

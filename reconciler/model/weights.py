"""The weights of a model on a host: what must be there before a service that needs them may start.

`ModelCheck` is what the host is told to look at, `ModelFault` what it finds wrong. The files lie on the host before a
transition begins: a swap must not start with a download.

Must not: know a runtime, or where a cache is when nobody says so (`model.runtimes`).
"""

from __future__ import annotations

import operator
from typing import Literal

from pydantic import Field

from reconciler.model.base import Wire

Layout = Literal["files", "hub", "llama", "ollama"]


class ModelCheck(Wire):
    """What to look at.

    `path` is the file or directory of a local model; with `hub` the directory of the cache, which has the layout of the
    hub itself, of llama.cpp's own cache, or of ollama's store. `memory`: the files must fit these bytes; 0 where their
    size says nothing about it. `chat`: a chat template must lie beside them, or at `template` where the server is given
    one. `fetch` is the command that gets the model.
    """

    path: str
    hub: str = Field(default="", exclude_if=operator.not_)
    revision: str = Field(default="", exclude_if=operator.not_)
    layout: Layout = "files"
    memory: int = Field(default=0, exclude_if=operator.not_)
    chat: bool = Field(default=False, exclude_if=operator.not_)
    template: str = Field(default="", exclude_if=operator.not_)
    fetch: str = Field(default="", exclude_if=operator.not_)


class ModelFault(Wire):
    """What is wrong with the model of a unit."""

    unit: str
    code: str
    reason: str
    fix: str

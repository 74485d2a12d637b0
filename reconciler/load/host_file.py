"""Writes the file of a host that was just enrolled: what was seen there, in the order people read it, with comments.

Must not: overwrite a file, or look at a host.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import Problem, RefusedError, Where
from reconciler.load.codes import problem
from reconciler.model.base import format_size
from reconciler.model.desired import HostFile, Scope, Ssh

GIB = 2**30
RESERVES = {"unified": 14 * GIB, "gh200": GIB, "discrete": 2 * GIB}
"""By the kind of memory. A host that shares its memory with the GPU needs the most: it wedges when nothing is left."""
_PLAIN = re.compile(r"[A-Za-z/~][A-Za-z0-9._/@-]*|(?:[0-9]{1,3}\.){3}[0-9]{1,3}")
_WORDS = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false", "null", "~"})
_SCHEMAS = ("schema", "docs/reference/schema")


@dataclass(frozen=True, slots=True)
class Seen:
    """What goes into the file; None is left out, for the fleet or the host's own answer says it."""

    name: str
    address: str
    host_key: str | None
    ssh: Ssh
    gpus: str
    memory: str | None
    capacity: int | None
    scope: Scope = "system"


def path_of(name: str) -> str:
    """Return where the file of a host lies, from the root of the repository."""
    return f"desired/hosts/{name}.yaml"


def host_text(seen: Seen, default: Ssh, schema: str) -> str:
    """Return the whole file."""
    return "".join(f"{line}\n" for line in _lines(seen, default, schema))


def _lines(seen: Seen, default: Ssh, schema: str) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={schema}"
    yield f"# {seen.gpus}. Written by recon enroll from what it saw; change it as you like."
    yield f"address: {_scalar(seen.address)}"
    if seen.host_key:
        yield f"host_key: {seen.host_key}"
    if seen.scope != "system":
        yield f"scope: {seen.scope} # nothing of recon runs as root; units, containers and state are the login's"
    differing = {name: getattr(seen.ssh, name) for name in ("user", "key", "port", "jump")}
    differing = {name: value for name, value in differing.items() if value != getattr(default, name)}
    if differing:
        yield f"ssh: {{{', '.join(f'{name}: {_scalar(value)}' for name, value in differing.items())}}}"
    if seen.memory:
        whole = (seen.capacity or 0) // GIB * GIB
        capacity = f", capacity: {format_size(whole)}" if whole else ""
        yield f"memory: {{kind: {seen.memory}{capacity}}}"
        yield f"reserve: {format_size(RESERVES[seen.memory])} # never given to a coven"
    else:
        yield "# memory: {kind: unified} # the GPU did not tell: unified, discrete or gh200"
        yield f"reserve: {format_size(RESERVES['unified'])} # never given to a coven; the kind of memory is not known"
    yield ""
    yield "# What it runs. Without this line nothing is started; may_run: [...] installs more covens to switch to."
    yield "# coven: NAME"


def _scalar(value: object) -> str:
    """Write a value so that it is read back as it is: bare where it is plain, else quoted."""
    if value is None or isinstance(value, int):
        return json.dumps(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text)


def schema_of(root: Path, kind: str = "host") -> str:
    """Return the schema as the files of this repository name it."""
    places = [folder for folder in _SCHEMAS if (root / folder / f"{kind}.schema.json").exists()]
    return f"../../{(places or _SCHEMAS)[0]}/{kind}.schema.json"


def write_new(root: Path, name: str, text: str) -> Path:
    """Put a new file into the repository, whole or not at all; one that is there is never overwritten.

    Raises:
        RefusedError: REC7421, there is one.
    """
    return write_new_file(root, path_of(name), text)


def write_new_file(root: Path, relative: str, text: str) -> Path:
    """Put a new file at a path of the repository; a hard link fails where anything is, a rename would replace it."""
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.recon-{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.link(beside, path)
    except FileExistsError as exc:
        raise exists(relative) from exc
    finally:
        beside.unlink(missing_ok=True)
    return path


def exists(relative: str, detail: str = "recon writes new files and overwrites none") -> RefusedError:
    """REC7421: the file to be written is there."""
    fix = f"look at it; remove it, or choose another name: {relative}"
    return RefusedError(problem("REC7421", Where(relative), detail, fix))


def checked(text: str) -> HostFile:
    """Read the text back the way the repository is read; a fault of ours must not reach git."""
    from reconciler.load.document import parse

    problems: list[Problem] = []
    document = parse(text, "the new file", problems)
    if document is None or problems:
        raise AssertionError(f"the written file cannot be read: {problems}")
    return HostFile.model_validate(document.value)

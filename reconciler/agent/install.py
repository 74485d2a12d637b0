"""Installs the agent under its own digest: files, checked byte code, and a mark that says it is complete.

The same bytes always go to the same place, so two installs at once do no harm, and an update never replaces a file that
a running executor may still import.

Must not: be called to look at a host; only `apply` installs.
"""

from __future__ import annotations

import importlib.util
import marshal
from typing import Any, Dict, List, Optional

from . import mark, places
from .machine import Machine
from .wire import RequestError

KEEP = 3
_MAIN = "import sys\nfrom recon_agent.__main__ import main\nsys.exit(main())\n"
# PEP 552: bit 0 says that the byte code is proven by a hash of the source, bit 1 that the hash is checked on import.
_CHECKED_HASH = (0b11).to_bytes(4, "little")


def install(machine: Machine, digest: str, bundle: Optional[Dict[str, str]]) -> str:
    """Make sure the agent of a digest is installed and return its directory."""
    place = f"{places.AGENTS}/{digest}"
    if bundle is None and mark.is_complete(machine, digest):
        return place
    if bundle is None:
        raise RequestError("REC7119", "the agent is not installed and was not sent", place, "recon apply again")
    directories = {name.rpartition("/")[0] for name in bundle}
    for directory in sorted({place, *(f"{place}/{part}" for part in directories if part)}):
        machine.mkdir(directory, 0o755)
        machine.mkdir(directory + "/__pycache__", 0o755)
    for name, source in sorted({**bundle, "__main__.py": _MAIN}.items()):
        data = source.encode("utf-8")
        machine.write(f"{place}/{name}", data)
        machine.write(_cache_path(f"{place}/{name}"), byte_code(data, f"{place}/{name}"))
    # Last: what has no mark is not complete and is never run.
    machine.write(place + "/.ok", mark.content(digest))
    _prune(machine, digest)
    return place


def make_current(machine: Machine, place: str) -> None:
    """Let the watchdog's unit, which names no digest, run this agent from now on; it is one rename."""
    found = machine.stat(places.CURRENT_AGENT)
    if found is None or found.kind != "link" or machine.read_link(places.CURRENT_AGENT) != place:
        machine.symlink(place, places.CURRENT_AGENT)


def byte_code(source: bytes, path: str) -> bytes:
    """Return a .pyc that Python believes only while the source beside it is the one it was made from."""
    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    magic = importlib.util.MAGIC_NUMBER
    return magic + _CHECKED_HASH + importlib.util.source_hash(source) + marshal.dumps(code)


def _cache_path(path: str) -> str:
    directory, _, name = path.rpartition("/")
    return f"{directory}/__pycache__/{importlib.util.cache_from_source(name).rpartition('/')[2]}"


def _prune(machine: Machine, current: str) -> None:
    """Remove agents older than the last three; one that may still run is among those."""
    ages: List[Any] = []
    for name in machine.listdir(places.AGENTS):
        path = f"{places.AGENTS}/{name}"
        found = machine.stat(path + "/.ok") if path != places.CURRENT_AGENT else None
        if name != current and found is not None:
            ages.append((found.mtime_ns, name))
    for _, name in sorted(ages)[: max(0, len(ages) - (KEEP - 1))]:
        machine.remove_tree(f"{places.AGENTS}/{name}")

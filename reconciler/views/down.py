"""What `recon down` and `recon up` did on each host, as text and as JSON.

Must not: print.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.errors import Problem
from reconciler.model.base import Wire
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint


def down_document(command: str, done: Mapping[str, Wire | Problem]) -> dict[str, Any]:
    """Return the usual envelope."""
    hosts = {
        name: {
            "ok": False,
            "code": each.code,
            "summary": each.summary,
            "detail": each.detail,
            "fix": each.fix,
        }
        if isinstance(each, Problem)
        else {"ok": True, **each.model_dump(mode="json")}
        for name, each in sorted(done.items())
    }
    status = "ok" if all(host["ok"] for host in hosts.values()) else "incomplete"
    return {"format_version": "1.0", "command": command, "status": status, "hosts": hosts}


def down_lines(command: str, done: Mapping[str, Wire | Problem], paint: Paint) -> Iterator[str]:
    """Yield what was done on each host."""
    for name, each in sorted(done.items()):
        if isinstance(each, Problem):
            yield f"{paint(name, 'bold')}: {paint('not done', 'red')} [{each.code}] {one_line(each.summary)}"
            yield f"  why:  {one_line(each.detail)}"
            yield f"  hint: {paint(one_line(each.fix), 'cyan')}"
            continue
        told = each.model_dump(mode="json")
        if command == "down":
            yield f"{paint(name, 'bold')}: {_names(told['down'])} down; stopped {_names(told['stopped'])}"
            if told["ending"]:
                yield f"  still ending, within their stop timeouts: {_names(told['ending'])}"
        elif told["cleared"]:
            yield f"{paint(name, 'bold')}: what was forced is forgotten"
        else:
            yield f"{paint(name, 'bold')}: {_lifted(told)}"
            for against in told["against"]:
                yield f"  {paint('against', 'yellow')} {one_line(against)}"
            if "coven" in told["was_down"]:
                yield f"  {paint(f'recon apply --host {name}', 'cyan')} brings its coven back, when its memory is free"


def _lifted(told: dict[str, Any]) -> str:
    """Say what may run again, what nobody had down, and what was started or why not."""
    said = [f"{_names(told['was_down'])} may run again"] if told["was_down"] else []
    said += [f"{one_line(scope)} was not down" for scope in told["up"] if scope not in told["was_down"]]
    if told["started"]:
        said.append(f"started {_names(told['started'])}")
    elif told["idle"]:
        said.append(f"started nothing: {one_line(told['idle'])}")
    return "; ".join(said)


def _names(names: list[str]) -> str:
    return one_line(", ".join(names)) or "nothing"

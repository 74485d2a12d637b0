"""Small state repositories written file by file, and what loading them says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import DesiredStateError, Problem
from reconciler.load.fleet import load_fleet

DIGEST = "sha256:" + "0f" * 32
IMAGE = f"registry.example.net/team/server@{DIGEST}"
FLEET = "version: 1\nname: studio\n"
SERVICE = f"runtime: none\n    image: {IMAGE}\n    memory: 10GiB\n"
COVEN = f"services:\n  one:\n    {SERVICE}"
HOST = "address: 192.0.2.1\ncoven: writing\n"
VALID = {
    "desired/fleet.yaml": FLEET,
    "desired/covens/writing.yaml": COVEN,
    "desired/hosts/box.yaml": HOST,
}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a valid state with these files added or put in place of its own."""
    for name, content in {**VALID, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def problems(root: Path) -> tuple[Problem, ...]:
    """Return what loading says is wrong; nothing when it loads."""
    try:
        load_fleet(root)
    except DesiredStateError as error:
        return error.problems
    return ()


def lines(root: Path) -> list[str]:
    """Return code and place of each problem, one line each."""
    return [f"{problem.code} {problem.where}" for problem in problems(root)]


def service(extra: str = "", *, runtime: str = "none", image: str = IMAGE, memory: str = "10GiB") -> str:
    """Return a coven of one service; the extra keys begin on line 6, indented by four."""
    body = "".join(f"    {line}\n" for line in extra.splitlines())
    return f"services:\n  one:\n    runtime: {runtime}\n    image: {image}\n    memory: {memory}\n{body}"

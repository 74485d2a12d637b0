"""Makes a new state repository: three hosts, three covens, and comments that say what each line is for.

Must not: touch a folder that has something in it, make hosts.
"""

from __future__ import annotations

import importlib.resources
import os
import subprocess
from collections.abc import Callable
from importlib.resources.abc import Traversable
from pathlib import Path

from reconciler.errors import RefusedError, Where
from reconciler.load.codes import problem
from reconciler.load.schema import schema_files
from reconciler.load.source import SAFE_GIT, git_environment

_REAL = "transport: ssh"
_SIMULATED = "transport: sim # the hosts are simulated machines, kept under .recon/sim"
_AUTHOR = ("-c", "user.name=recon", "-c", "user.email=recon@example.net")
_GITIGNORE = ".recon/\n"
_TIMEOUT_S = 30.0


def scaffold(
    folder: Path, *, simulated: bool, before_commit: Callable[[Path], None] = lambda _folder: None
) -> tuple[Path, ...]:
    """Write a state repository into an empty or new folder and commit it, and return the files written.

    `before_commit` may add files that belong to the first commit. Where git is not there the files are; recon then
    calls their state uncommitted.

    Raises:
        RefusedError: the folder has something in it, or is none.
    """
    _refuse_unless_empty(folder)
    files = _starter_files(simulated=simulated)
    files |= {f"schema/{name}": text for name, text in schema_files().items()}
    written: list[Path] = []
    for name, text in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    before_commit(folder)
    _commit(folder)
    return tuple(written)


def _refuse_unless_empty(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    detail = "files of its own could be overwritten" if folder.is_dir() else "there is a file of that name"
    raise RefusedError(problem("REC7040", Where(str(folder)), detail, "name a new or empty folder: recon init DIR"))


def _starter_files(*, simulated: bool) -> dict[str, str]:
    files = dict(_texts_below(importlib.resources.files("reconciler.load") / "starter", ""))
    files[".gitignore"] = _GITIGNORE
    if simulated:
        files["desired/fleet.yaml"] = files["desired/fleet.yaml"].replace(_REAL, _SIMULATED)
    return files


def _texts_below(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for item in folder.iterdir():
        if item.is_dir():
            found += _texts_below(item, f"{prefix}{item.name}/")
        elif item.name.endswith((".yaml", ".md")):
            found.append((prefix + item.name, item.read_text(encoding="utf-8")))
    return found


def _commit(folder: Path) -> None:
    """Make the first commit; under a neutral name where git knows none, and without signing or hooks."""
    if not _git(folder, "init", "--quiet", "--initial-branch=main") or not _git(folder, "add", "--all"):
        return
    known = _git(folder, "config", "user.email") and _git(folder, "config", "user.name")
    author = () if known else _AUTHOR
    _git(
        folder,
        "-c",
        "commit.gpgsign=false",
        *author,
        "commit",
        "--quiet",
        "--message",
        "recon init: three hosts, three covens",
    )


def _git(folder: Path, *arguments: str) -> bool:
    try:
        done = subprocess.run(
            (*SAFE_GIT, *arguments),
            cwd=folder,
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

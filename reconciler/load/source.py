"""Says which commit the desired state was read from, by asking git.

git runs with what a repository could make it execute switched off: the state under review is somebody's proposal.

Must not: change the repository.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from reconciler.model.desired import Source

SAFE_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.pager=cat")
_TIMEOUT_S = 20.0
_STEERING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")


def load_source(root: Path) -> Source:
    """Return the commit of the tree and whether `desired/` or `templates/` differ from it.

    Without git, repository or commit there is no commit; what is not committed counts as changed.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if commit is None:
        return Source(commit=None, dirty=True)
    status = _git(
        root, "status", "--porcelain", "--untracked-files=all", "--ignore-submodules=all", "--", "desired", "templates"
    )
    return Source(commit=commit.strip(), dirty=status is None or bool(status.strip()))


def undeclared(root: Path, declared: Iterable[str]) -> tuple[str, ...]:
    """Return the hosts that have rendered units in the repository and are no longer declared."""
    folder = root / "quadlets"
    there = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    return tuple(sorted(there - set(declared)))


def git_environment() -> dict[str, str]:
    """Return an environment in which git looks at the folder it is told, asks nobody and speaks English."""
    kept = {name: value for name, value in os.environ.items() if name not in _STEERING}
    return kept | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            (*SAFE_GIT, *arguments),
            cwd=root,
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None

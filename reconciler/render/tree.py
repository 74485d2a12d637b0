"""The rendered files as they lie in git, and how what lies there differs from what should.

Must not: read or write files; the caller hands texts in and writes them out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from reconciler.model.desired import Fleet
from reconciler.render.headers import split_header, with_git_header
from reconciler.render.host import render_fleet

FOLDER = "quadlets"


def expected_tree(fleet: Fleet, templates: Mapping[str, str]) -> dict[str, str]:
    """Return every rendered file of a fleet by its path in the repository, `quadlets/<host>/<name>`."""
    return {
        f"{FOLDER}/{host}/{file.name}": with_git_header(file, f"{fleet.name}/{host}")
        for host, rendered in render_fleet(fleet, templates).items()
        for file in rendered.files
    }


def leftovers(expected: Mapping[str, str], actual: Mapping[str, str]) -> tuple[str, ...]:
    """Return paths of files that we wrote and no longer would; files without our header are somebody else's."""
    return tuple(path for path in sorted(actual.keys() - expected.keys()) if split_header(actual[path])[0] is not None)


def stale(expected: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    """Return a unified diff for every file that must be written or removed, in the order of paths."""
    written = [path for path, text in expected.items() if actual.get(path) != text]
    return [
        _diff(path, actual.get(path), expected.get(path)) for path in sorted([*written, *leftovers(expected, actual)])
    ]


def _diff(path: str, before: str | None, after: str | None) -> str:
    lines = difflib.unified_diff(
        (before or "").splitlines(keepends=True),
        (after or "").splitlines(keepends=True),
        fromfile="/dev/null" if before is None else f"a/{path}",
        tofile="/dev/null" if after is None else f"b/{path}",
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

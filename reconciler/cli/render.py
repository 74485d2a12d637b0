"""`recon render`: the unit files of every host, as they lie in git under `quadlets/`.

Must not: touch anything outside `quadlets/`, or remove a file that does not carry our header.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode, Problem, RefusedError, Where


def render(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail with a diff when files differ.")] = False,
) -> None:
    """Write the unit files of every host to quadlets/, for review beside the change that causes them.

    Examples: recon render · recon render --check
    """
    from reconciler.model.base import count
    from reconciler.render.tree import FOLDER

    root = common.SETTINGS.root
    expected, _, differences = _compare(root)
    if check and differences:
        for difference in differences:
            common.say(difference.rstrip("\n"), whole=True)
        common.tell(f"Not what desired/ says: {count(len(differences), 'file')} in {FOLDER}/. Type:")
        common.tell("  recon render")
        common.finish(ExitCode.REFUSED)
    if not check:
        rewrite(root)
    verb = "differ" if check else "written or removed"
    common.say(f"{len(expected)} files in {FOLDER}/, {len(differences)} {verb}.")


def rewrite(root: Path) -> None:
    """Make quadlets/ of a state repository what desired/ says."""
    from reconciler.render.tree import leftovers

    expected, actual, _ = _compare(root)
    _write_tree(root, expected, actual)
    for path in leftovers(expected, actual):
        (root / path).unlink()
        _remove_empty((root / path).parent)


def _compare(root: Path) -> tuple[Mapping[str, str], Mapping[str, str], Sequence[str]]:
    """Return what the files should be, what they are, and the differences as diffs."""
    from reconciler.load.fleet import load_fleet, load_templates
    from reconciler.render.tree import FOLDER, expected_tree, stale

    expected = expected_tree(load_fleet(root), load_templates(root))
    actual = dict(_read_tree(root, FOLDER))
    return expected, actual, stale(expected, actual)


def _read_tree(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    """Give path and text of every file below a folder; links are refused, for writing would follow them."""
    if (root / folder).is_symlink():
        raise _refused(folder, "it is a symlink")
    for directory, names, files in os.walk(root / folder):
        for name in sorted([*names, *files]):
            path = Path(directory, name)
            shown = path.relative_to(root).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise _refused(shown, "it is a symlink or a device")
            if path.is_file():
                yield shown, path.read_text(encoding="utf-8", errors="surrogateescape")


def _write_tree(root: Path, expected: Mapping[str, str], actual: Mapping[str, str]) -> None:
    for path, text in expected.items():
        if actual.get(path) == text:
            continue
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside it first: a full disk leaves the old file, not half of the new one.
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(target)


def _remove_empty(directory: Path) -> None:
    if not any(directory.iterdir()):
        directory.rmdir()


def _refused(path: str, why: str) -> RefusedError:
    return RefusedError(
        Problem(
            "REC1024",
            "not a regular file",
            f"{why}, and rendering writes only plain files below quadlets/",
            f"git rm --cached {path}, and remove it",
            Where(path),
        )
    )

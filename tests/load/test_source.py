"""Which commit the desired state comes from, and that asking for it runs nothing of the repository's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.load.source import load_source
from reconciler.model.desired import Source
from tests.load.states import write


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write(tmp_path, {"templates/container.j2": "x\n"})
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--no-gpg-sign", "--message", "first")
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.net")
    argv = ("git", *author, *arguments)
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def test_a_clean_tree_is_its_commit(repository: Path) -> None:
    assert load_source(repository) == Source(commit=git(repository, "rev-parse", "HEAD"), dirty=False)


@pytest.mark.parametrize("name", ["desired/fleet.yaml", "desired/hosts/new.yaml", "templates/container.j2"])
def test_a_changed_or_new_file_of_the_state_is_dirty(repository: Path, name: str) -> None:
    (repository / name).write_text("# changed\n")

    assert load_source(repository) == Source(commit=git(repository, "rev-parse", "HEAD"), dirty=True)


def test_other_files_are_not_the_state(repository: Path) -> None:
    (repository / "notes.txt").write_text("x")

    assert not load_source(repository).dirty


def test_a_state_below_the_top_of_a_repository_has_its_commit(repository: Path) -> None:
    write(repository / "below", {})
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--no-gpg-sign", "--message", "second")
    (repository / "desired/fleet.yaml").write_text("# changed\n")

    assert load_source(repository / "below") == Source(commit=git(repository, "rev-parse", "HEAD"), dirty=False)


def test_without_repository_or_commit_the_state_is_uncommitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    write(tmp_path, {})

    assert load_source(tmp_path) == Source(commit=None, dirty=True)
    git(tmp_path, "init", "--quiet")
    assert load_source(tmp_path) == Source(commit=None, dirty=True)
    assert load_source(tmp_path / "missing") == Source(commit=None, dirty=True)


def test_the_repositorys_own_programs_do_not_run(repository: Path) -> None:
    trap = repository / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository}/sprung\n")
    trap.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "core.hooksPath", str(repository))

    load_source(repository)

    assert not (repository / "sprung").exists()


def test_an_environment_that_points_git_elsewhere_is_not_followed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")

    assert load_source(repository) == Source(commit=commit, dirty=False)

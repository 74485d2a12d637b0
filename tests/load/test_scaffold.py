"""`recon init` makes a repository that is valid, committed and worth reading."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.errors import RefusedError
from reconciler.load.fleet import load_fleet
from reconciler.load.scaffold import scaffold
from reconciler.load.schema import schema_files
from reconciler.load.source import load_source

FILES = [
    ".gitignore",
    "README.md",
    "desired/covens/embeddings.yaml",
    "desired/covens/reasoning.yaml",
    "desired/covens/vision.yaml",
    "desired/fleet.yaml",
    "desired/hosts/gh-1.yaml",
    "desired/hosts/spark-1.yaml",
    "desired/hosts/spark-2.yaml",
    "schema/coven.schema.json",
    "schema/fleet.schema.json",
    "schema/host.schema.json",
    "schema/workload.schema.json",
]


@pytest.mark.parametrize(("simulated", "transport"), [(True, "sim"), (False, "ssh")])
def test_a_new_repository_is_valid_and_committed(tmp_path: Path, simulated: bool, transport: str) -> None:
    written = scaffold(tmp_path / "new", simulated=simulated)

    assert [str(path.relative_to(tmp_path / "new")) for path in written] == FILES
    fleet = load_fleet(tmp_path / "new")
    assert fleet.transport == transport
    assert {name: host.slots[0].coven for name, host in fleet.hosts.items()} == {
        "gh-1": "embeddings",
        "spark-1": "reasoning",
        "spark-2": "vision",
    }
    source = load_source(tmp_path / "new")
    assert source.commit is not None
    assert not source.dirty


def test_every_host_may_be_switched_by_changing_one_line(tmp_path: Path) -> None:
    scaffold(tmp_path, simulated=True)
    path = tmp_path / "desired/hosts/spark-1.yaml"
    path.write_text(path.read_text().replace("coven: reasoning", "coven: vision"))

    assert load_fleet(tmp_path).hosts["spark-1"].slots[0].coven == "vision"
    assert load_source(tmp_path).dirty


def test_each_file_names_a_schema_that_is_there(tmp_path: Path) -> None:
    scaffold(tmp_path, simulated=False)
    texts = schema_files()

    for path in (tmp_path / "desired").rglob("*.yaml"):
        schema = (path.parent / path.read_text().splitlines()[0].partition("$schema=")[2]).resolve()
        assert schema.read_text() == texts[schema.name]


def test_an_author_is_found_where_git_knows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)

    scaffold(tmp_path / "new", simulated=True)

    argv = ["git", "log", "--format=%an <%ae> %s"]
    said = subprocess.run(argv, cwd=tmp_path / "new", capture_output=True, text=True, check=True).stdout
    assert said == "recon <recon@example.net> recon init: three hosts, three covens\n"


def test_without_git_the_files_are_there_and_uncommitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    scaffold(tmp_path / "new", simulated=True)

    assert load_source(tmp_path / "new").label == "uncommitted"
    assert sorted(load_fleet(tmp_path / "new").covens) == ["embeddings", "reasoning", "vision"]


@pytest.mark.parametrize("name", ["full", "file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    with pytest.raises(RefusedError) as caught:
        scaffold(tmp_path / name, simulated=True)

    assert [each.code for each in caught.value.problems] == ["REC7040"]
    assert (tmp_path / "full/notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()

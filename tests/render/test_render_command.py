"""`recon render`: writes the tree, says when it is stale, leaves alone what is not ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from reconciler.cli import common
from reconciler.cli.render import render
from reconciler.errors import RefusedError

FLEET = "version: 1\nname: studio\n"
HOST = "address: 192.0.2.11\ncoven: chat\nmay_run: [chat, speech]\n"
COVEN = """\
services:
  server:
    runtime: none
    image: registry.example.net/a@sha256:{digest}
    memory: 1GiB
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A state repository with one host and two covens, set as the one the command works on."""
    for name, text in {
        "fleet.yaml": FLEET,
        "hosts/spark-1.yaml": HOST,
        "covens/chat.yaml": COVEN.format(digest="1" * 64),
        "covens/speech.yaml": COVEN.format(digest="2" * 64),
    }.items():
        path = tmp_path / "desired" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before = common.SETTINGS.root
    common.SETTINGS.root = tmp_path
    yield tmp_path
    common.SETTINGS.root = before


def run(*argv: str) -> Result:
    app = typer.Typer()
    app.command()(render)
    return CliRunner().invoke(app, argv)


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in (root / "quadlets").rglob("*") if path.is_file()}


NAMES = {
    f"quadlets/spark-1/{name}"
    for name in (
        "recon-boot.target",
        "recon-chat-server.container",
        "recon-coven-chat.target",
        "recon-coven-speech.target",
        "recon-gate-all-chat.service",
        "recon-gate-all-speech.service",
        "recon-speech-server.container",
        "recon-watchdog.service",
        "recon-watchdog.timer",
    )
}


def test_rendering_twice_writes_once_and_then_nothing(root: Path) -> None:
    first, second = run(), run()

    assert (first.exit_code, first.stdout) == (0, "9 files in quadlets/, 9 written or removed.\n")
    assert (second.exit_code, second.stdout) == (0, "9 files in quadlets/, 0 written or removed.\n")
    assert tree(root).keys() == NAMES


def test_a_check_of_a_fresh_tree_passes_and_of_a_stale_one_shows_the_difference(root: Path) -> None:
    run()
    fresh = run("--check")
    before = tree(root)
    (root / "desired/covens/chat.yaml").write_text(COVEN.format(digest="3" * 64))
    stale = run("--check")

    assert (fresh.exit_code, fresh.stdout) == (0, "9 files in quadlets/, 0 differ.\n")
    assert stale.exit_code == 3
    assert "--- a/quadlets/spark-1/recon-chat-server.container\n" in stale.stdout
    assert f"-Image=registry.example.net/a@sha256:{'1' * 64}\n+Image=registry.example.net/a@sha256:{'3' * 64}\n" in (
        stale.stdout
    )
    assert stale.stderr == "Not what desired/ says: 1 file in quadlets/. Type:\n  recon render\n"
    assert tree(root) == before


def test_what_we_no_longer_render_goes_and_what_others_wrote_stays(root: Path) -> None:
    run()
    (root / "quadlets/README.md").write_text("a note\n")
    (root / "quadlets/spark-1/recon-by-hand.container").write_text("[Container]\n")
    (root / "desired/hosts/spark-1.yaml").rename(root / "desired/hosts/spark-2.yaml")
    result = run()

    assert result.exit_code == 0
    assert tree(root).keys() == {name.replace("spark-1", "spark-2") for name in NAMES} | {
        "quadlets/README.md",
        "quadlets/spark-1/recon-by-hand.container",
    }


def test_the_folder_of_a_host_that_is_gone_goes_with_its_last_file(root: Path) -> None:
    run()
    (root / "desired/hosts/spark-1.yaml").rename(root / "desired/hosts/spark-2.yaml")
    run()

    assert [path.name for path in (root / "quadlets").iterdir()] == ["spark-2"]


@pytest.mark.parametrize("place", ["quadlets", "quadlets/spark-1", "quadlets/spark-1/recon-boot.target"])
def test_a_symlink_in_the_tree_is_refused_and_nothing_is_written_through_it(
    root: Path, place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(elsewhere)

    result = run()

    assert isinstance(result.exception, RefusedError)
    assert [(problem.code, str(problem.where)) for problem in result.exception.problems] == [("REC1024", place)]
    assert list(elsewhere.iterdir()) == []


def test_a_template_of_the_repository_is_used(root: Path) -> None:
    (root / "templates").mkdir()
    (root / "templates/coven.target.j2").write_text(
        "[Unit]\nDescription={{ description }}, ours\nBindsTo={{ gate }}\nAfter={{ gate }}\n"
    )

    assert run().exit_code == 0
    assert "Description=recon: coven chat, ours\n" in tree(root)["quadlets/spark-1/recon-coven-chat.target"]

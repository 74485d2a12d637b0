"""The rendered tree in git: headers, what is stale, and the command that writes it."""

from pathlib import Path

import pytest

from reconciler.model.rendered import RenderedFile
from reconciler.render import render_host
from reconciler.render.headers import Header, split_header, with_git_header, with_header
from reconciler.render.tree import expected_tree, leftovers, stale
from tests.render.fleets import a_fleet, a_host

FILES = render_host(a_fleet(), a_host(), {}).files


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_header_says_whose_file_it_is_and_goes_without_touching_the_body(file: RenderedFile) -> None:
    on_host = with_header(file, "studio/spark-1", "0f3c-dirty")
    in_git = with_git_header(file, "studio/spark-1")

    assert on_host.splitlines()[:4] == [
        "# Managed by recon: change desired/ in git, then run recon apply.",
        "# recon-owner: studio/spark-1",
        f"# recon-config-hash: {file.config_hash}",
        "# recon-source-commit: 0f3c-dirty",
    ]
    assert split_header(on_host) == (Header("studio/spark-1", file.config_hash, "0f3c-dirty"), file.body)
    assert split_header(in_git) == (Header("studio/spark-1", file.config_hash, None), file.body)


@pytest.mark.parametrize("text", ["", "[Unit]\n", "# by hand\n[Unit]\n", "# recon-owner: studio/x\n[Unit]\n"])
def test_a_file_without_our_notice_is_not_ours(text: str) -> None:
    assert split_header(text)[0] is None


def test_the_tree_has_every_file_of_every_host_by_its_path() -> None:
    tree = expected_tree(a_fleet(a_host("a"), a_host("b")), {})

    assert sorted(tree) == sorted(f"quadlets/{host}/{file.name}" for host in ("a", "b") for file in FILES)
    assert "# recon-owner: studio/b\n" in tree["quadlets/b/recon-boot.target"]
    assert "source-commit" not in "".join(tree.values())


def test_nothing_is_stale_right_after_rendering() -> None:
    tree = expected_tree(a_fleet(), {})

    assert stale(tree, tree) == []


def test_what_changed_appeared_or_is_left_over_is_shown_as_a_diff_in_the_order_of_paths() -> None:
    expected = {"quadlets/a/new": "[Unit]\n", "quadlets/a/same": "x\n", "quadlets/b/edited": "one\ntwo\n"}
    ours = with_git_header(FILES[0], "studio/z")
    actual = {
        "quadlets/a/same": "x\n",
        "quadlets/b/edited": "one\n2",
        "quadlets/z/old": ours,
        "quadlets/z/README": "a note of somebody else\n",
    }

    new, edited, old = stale(expected, actual)

    assert new == "--- /dev/null\n+++ b/quadlets/a/new\n@@ -0,0 +1 @@\n+[Unit]\n"
    assert edited == (
        "--- a/quadlets/b/edited\n+++ b/quadlets/b/edited\n@@ -1,2 +1,2 @@\n"
        " one\n-2\n\\ No newline at end of file\n+two\n"
    )
    assert old.startswith("--- a/quadlets/z/old\n+++ /dev/null\n")
    assert leftovers(expected, actual) == ("quadlets/z/old",)


def test_this_repositorys_own_tree_is_fresh() -> None:
    from reconciler.load.fleet import load_fleet, load_templates

    root = Path(__file__).parents[2]
    folder = root / "quadlets"
    actual = {path.relative_to(root).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}

    assert stale(expected_tree(load_fleet(root), load_templates(root)), actual) == []

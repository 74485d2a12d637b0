"""One more worker in the file of the spiral: one name in one line, and every other byte as it was."""

from __future__ import annotations

import pytest

from reconciler.load.share_edit import with_worker

HEAD = """# the loop
root: /srv/spiral  # on the hub
user: spiral
units:
  work: {argv: [/bin/work], lane: cpu, where: workers}   # claims
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  motion: {hub: gh-1}\n", "  motion: {hub: gh-1, workers: [new]}\n"),
        ("  motion: {hub: gh-1, squash: none}\n", "  motion: {hub: gh-1, workers: [new], squash: none}\n"),
        ("  motion: {hub: gh-1, workers: []} # none yet\n", "  motion: {hub: gh-1, workers: [new]} # none yet\n"),
        ("  motion: {hub: gh-1, workers: [ a ]}\n", "  motion: {hub: gh-1, workers: [ a, new]}\n"),
        ("  motion:\n    hub: gh-1 # the disk\n", "  motion:\n    hub: gh-1 # the disk\n    workers: [new]\n"),
        (
            "  motion:\n    workers: # all of them\n      - a # first\n      - b\n    hub: gh-1\n",
            "  motion:\n    workers: # all of them\n      - a # first\n      - b\n      - new\n    hub: gh-1\n",
        ),
        (
            "  motion:\n    hub: gh-1\n    workers:\n    - a",
            "  motion:\n    hub: gh-1\n    workers:\n    - a\n    - new\n",
        ),
        ("  motion:\n    hub: gh-1", "  motion:\n    hub: gh-1\n    workers: [new]\n"),
        (
            "  other: {hub: x, workers: [y]}\n  motion: {hub: gh-1, workers: [a, b]}\n",
            "  other: {hub: x, workers: [y]}\n  motion: {hub: gh-1, workers: [a, b, new]}\n",
        ),
        ("  motion: {hub: gh-1, workers: [new]}\n", "  motion: {hub: gh-1, workers: [new]}\n"),
    ],
)
def test_a_worker_is_added_where_the_workers_are(before: str, after: str) -> None:
    text = HEAD + "shares: # over NFS\n"

    assert with_worker(text + before, "motion", "new") == text + after


@pytest.mark.parametrize(
    "share",
    [
        "  motion: {hub: gh-1, workers: [\n    a,\n    b]}\n",
        "  motion: &m {hub: gh-1, workers: &w [a]}\n  other: {hub: x, workers: *w}\n",
        "  motion: {'hub': \"gh-1\"}\n",
    ],
    ids=["a list over lines", "a list that two shares have", "quoted"],
)
def test_what_is_written_in_another_way_is_left_to_a_person(share: str) -> None:
    assert with_worker(HEAD + "shares:\n" + share, "motion", "new") is None

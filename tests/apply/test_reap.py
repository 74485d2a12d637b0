"""Reaping from afar: a look is one question, deleting as many as the host needs time for."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.apply.reap import reap
from reconciler.errors import HostError, LockedError, RefusedError
from reconciler.views.paint import Paint
from reconciler.views.reaped import reaped_document, reaped_lines
from tests.apply.plans import Hosts, ScriptedHost, refusal
from tests.builders import a_host


def answer(*paths: str, go: bool, more: bool = False, stay: int = 2) -> dict[str, Any]:
    listed = [{"path": path, "bytes": 4096, "at": 1e9, "why": "count"} for path in paths]
    return {
        "go": go,
        "paths": ["/srv/spiral/renders"],
        "keep": {"count": 2, "age": 3600.0},
        "found": {"files": len(paths) + stay, "bytes": 4096 * (len(paths) + stay), "others": 0},
        "gone": {"files": len(paths), "bytes": 4096 * len(paths)},
        "stay": {"files": stay, "bytes": 4096 * stay},
        "listed": listed,
        "skipped": [{"path": "/srv/spiral/renders/log", "why": "is being written"}],
        "skipped_files": 1,
        "more": more,
    }


def test_what_takes_longer_than_one_question_is_asked_for_again_and_summed_up() -> None:
    host = ScriptedHost(answer("a", "b", go=True, more=True, stay=3), answer("c", go=True))

    done = reap(a_host(), Hosts(spark_1=host), go=True, owner="ann")

    assert host.asked == [("reap", {"go": True, "owner": "ann", "host": "spark-1"})] * 2
    assert (done.gone.files, done.found.files, done.stay.files) == (3, 5, 2)
    assert [each.path for each in done.listed] == ["a", "b", "c"]


def test_a_look_that_is_cut_short_is_not_asked_for_again() -> None:
    host = ScriptedHost(answer("a", go=False, more=True))

    assert (reap(a_host(), Hosts(spark_1=host), go=False, owner="ann").more, len(host.asked)) == (True, 1)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("REC7380", RefusedError),
        ("REC7381", LockedError),
        ("REC7382", LockedError),
        ("REC7383", RefusedError),
        ("REC7386", HostError),
    ],
)
def test_a_refusal_has_its_own_exit_code(code: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=code):
        reap(a_host(), Hosts(spark_1=ScriptedHost(refusal(code))), go=True, owner="ann")


def test_a_look_says_what_would_go_and_what_to_type() -> None:
    done = reap(a_host(), Hosts(spark_1=ScriptedHost(answer("/r/a", go=False))), go=False, owner="ann")

    assert list(reaped_lines("spark-1", done, Paint(on=False))) == [
        "spark-1: /srv/spiral/renders; keep 1 h, 2 files",
        "  - 2001-09-09 01:46        4KiB  /r/a  (count)",
        "  stays: /srv/spiral/renders/log is being written",
        "  1 files, 4KiB would go of 3 files, 12KiB; 2 files, 8KiB stay",
        "  recon reap --host spark-1 --go",
    ]
    assert reaped_document("studio", {"spark-1": done}, {"gh-1": "no"})["status"] == "incomplete"

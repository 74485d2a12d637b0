"""The reaper on a real file system: what goes, in which order, and that nothing else ever does."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import reaper
from reconciler.agent.machine import Directory, Entry
from reconciler.agent.real import RealMachine
from reconciler.agent.reaper import Budget, Reaping

NOW = time.time()
HOUR = 3600.0
FILE = 4096


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    where = tmp_path.resolve() / "spiral" / "renders"
    where.mkdir(parents=True)
    return where


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the declared one, whose files must be there at the end of every test."""
    where = tmp_path.resolve() / "precious"
    where.mkdir()
    for name in ("a", "b", "c"):
        put(where / name, age_h=10_000)
    yield where
    assert sorted(each.name for each in where.iterdir()) == ["a", "b", "c"]


def put(path: Path | bytes, *, age_h: float = 100.0, size: int = 1) -> None:
    with open(path, "wb") as file:  # noqa: PTH123 - names that are no text
        file.write(b"x" * size)
    if age_h:
        os.utime(path, (NOW - age_h * HOUR, NOW - age_h * HOUR))


def reap(
    *paths: Path,
    size: int | None = None,
    age_h: float | None = None,
    count: int | None = None,
    go: bool = True,
    machine: RealMachine | None = None,
) -> dict[str, Any]:
    machine = machine or RealMachine()
    budget = Budget(size, None if age_h is None else age_h * HOUR, count)
    return Reaping(machine, [str(path) for path in paths], budget, go=go, ends=machine.monotonic() + 60).run()


def names(where: Path) -> list[str]:
    return sorted(each.name for each in where.iterdir())


# -- the budget -----------------------------------------------------------------------------------------------------


def test_over_the_count_the_oldest_go_first(renders: Path) -> None:
    for number in range(5):
        put(renders / f"f{number}", age_h=100 - number)

    done = reap(renders, count=2)

    assert names(renders) == ["f3", "f4"]
    assert [Path(each["path"]).name for each in done["listed"]] == ["f0", "f1", "f2"]
    assert (done["gone"], done["stay"]) == ({"files": 3, "bytes": 3 * FILE}, {"files": 2, "bytes": 2 * FILE})


def test_over_the_bytes_as_many_go_as_it_takes_over_all_directories(tmp_path: Path) -> None:
    one, other = tmp_path.resolve() / "x" / "one", tmp_path.resolve() / "x" / "other"
    for where in (one, other):
        where.mkdir(parents=True)
    put(one / "old", age_h=30, size=3 * FILE)
    put(other / "older", age_h=40, size=2 * FILE)
    put(other / "new", age_h=1, size=FILE)

    done = reap(one, other, size=4 * FILE)

    assert (names(one), names(other)) == (["old"], ["new"])
    assert [each["why"] for each in done["listed"]] == ["bytes"]


def test_over_the_age_all_that_are_older_go(renders: Path) -> None:
    (renders / "deep" / "er").mkdir(parents=True)
    put(renders / "deep" / "er" / "old", age_h=25)
    put(renders / "new", age_h=23)

    done = reap(renders, age_h=24)

    assert (names(renders / "deep" / "er"), names(renders)) == ([], ["deep", "new"])
    assert done["gone"]["files"] == 1


def test_a_dry_run_says_the_same_and_touches_nothing(renders: Path) -> None:
    for number in range(4):
        put(renders / f"f{number}", age_h=100 - number)

    said, before = reap(renders, count=1, go=False), names(renders)
    done = reap(renders, count=1)

    assert before == ["f0", "f1", "f2", "f3"]
    assert {**said, "go": True} == done


def test_within_the_budget_nothing_goes(renders: Path) -> None:
    put(renders / "f", age_h=1)

    assert reap(renders, size=1 << 20, age_h=2, count=1)["gone"] == {"files": 0, "bytes": 0}


def test_more_files_than_a_scan_holds_go_in_order_all_the_same(renders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "BATCH", 3)
    for number in range(20):
        put(renders / f"f{number:02}", age_h=100 - number)

    done = reap(renders, count=4)

    assert names(renders) == ["f16", "f17", "f18", "f19"]
    assert [Path(each["path"]).name for each in done["listed"]] == [f"f{number:02}" for number in range(16)]


class Hurried(RealMachine):
    """A machine on which a second is over after so many openings of the root: one for each file that goes."""

    def __init__(self, a_second: int) -> None:
        super().__init__()
        self._a_second = a_second
        self._opened = 0

    def open_directory(self, path: str) -> Directory:
        self._opened += 1
        return super().open_directory(path)

    def monotonic(self) -> float:
        return float(self._opened // self._a_second)


def test_a_round_that_is_out_of_time_ends_and_the_next_one_goes_on_with_the_oldest(
    renders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "BATCH", 400)
    monkeypatch.setattr(reaper, "SHOWN", 10_000)
    for number in range(1500):
        put(renders / f"f{number:04}", age_h=9000 - number)

    rounds: list[dict[str, Any]] = []
    while not rounds or rounds[-1]["more"]:
        machine = Hurried(300)
        rounds.append(Reaping(machine, [str(renders)], Budget(None, None, 100), go=True, ends=1.0).run())

    gone = [Path(each["path"]).name for each in (line for done in rounds for line in done["listed"])]
    assert gone == [f"f{number:04}" for number in range(1400)]
    assert [done["found"]["files"] for done in rounds] == [1500 - number for number in _before(rounds)]
    assert max(done["gone"]["files"] for done in rounds) <= 300 + 256
    assert len(names(renders)) == 100


def _before(rounds: list[dict[str, Any]]) -> list[int]:
    """Return how many files had gone before each round."""
    gone = [done["gone"]["files"] for done in rounds]
    return [sum(gone[:number]) for number in range(len(gone))]


class Endless(Directory):
    """A directory of files that are made up as they are asked for, youngest first."""

    @property
    def mount(self) -> int:
        return 1

    def __init__(self, count: int) -> None:
        self._count = count

    def entries(self) -> Iterator[Entry]:
        for number in range(self._count):
            at = int((NOW - 100 * HOUR) * 1e9) - number
            yield Entry(b"render-%08d.png" % number, "file", FILE, at, 1, number, 1)

    def close(self) -> None:
        """Nothing is open."""


class Full(RealMachine):
    """A machine whose every directory holds so many files."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def open_directory(self, path: str) -> Directory:
        return Endless(self._count)


def test_however_many_files_there_are_only_a_batch_of_them_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "BATCH", 500)

    def held(count: int) -> int:
        machine = Full(count)
        tracemalloc.start()
        done = Reaping(machine, ["/srv/x"], Budget(None, None, count - 5), go=False, ends=machine.monotonic() + 600)
        found = done.run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (found["found"]["files"], found["gone"]["files"], found["more"]) == (count, 5, False)
        return peak

    few, many = held(2_000), held(20_000)

    assert many < 2 * few


# -- what is not taken ----------------------------------------------------------------------------------------------


def test_links_sockets_pipes_and_directories_stay(renders: Path, precious: Path) -> None:
    (renders / "link").symlink_to(precious / "a")
    (renders / "way").symlink_to(precious)
    (renders / "hollow").mkdir()
    os.mkfifo(renders / "pipe")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(renders):  # A socket's path may be 108 bytes long.
        server.bind("socket")
        done = reap(renders, count=0)

    assert names(renders) == ["hollow", "link", "pipe", "socket", "way"]
    assert (done["found"], done["gone"]) == ({"files": 0, "bytes": 0, "others": 4}, {"files": 0, "bytes": 0})


def test_a_file_that_somebody_writes_stays_however_old(renders: Path) -> None:
    put(renders / "log", age_h=999)
    put(renders / "done", age_h=1)

    with (renders / "log").open("ab"):
        os.utime(renders / "log", (NOW - 999 * HOUR, NOW - 999 * HOUR))
        done = reap(renders, count=0)

    assert names(renders) == ["log"]
    assert done["skipped"] == [{"path": str(renders / "log"), "why": "is being written"}]


def test_a_file_of_this_minute_stays(renders: Path) -> None:
    put(renders / "now", age_h=0)

    done = reap(renders, count=0)

    assert (names(renders), done["skipped"][0]["why"]) == (["now"], "changed less than a minute ago")


def test_one_of_two_names_goes_and_gives_nothing_back(renders: Path, precious: Path) -> None:
    os.link(precious / "a", renders / "kept-elsewhere")
    put(renders / "one", age_h=50)
    os.link(renders / "one", renders / "two")

    done = reap(renders, count=0)

    assert (names(renders), done["found"]["bytes"]) == ([], 2 * FILE)
    assert done["gone"] == {"files": 3, "bytes": FILE}


@pytest.mark.parametrize("name", [b"a\nb", b"\x1b[31mred", b"\xff\xfe", "\u202eevil".encode(), b" ", b"-rf", b"..."])
def test_whatever_a_name_is_made_of_it_goes_and_is_shown_harmless(renders: Path, name: bytes) -> None:
    put(os.fsencode(renders) + b"/" + name)

    done = reap(renders, count=0)

    shown = done["listed"][0]["path"]
    assert (names(renders), shown.isprintable()) == ([], True)


# -- attacks --------------------------------------------------------------------------------------------------------


def test_a_declared_directory_behind_a_link_is_not_entered(tmp_path: Path, precious: Path) -> None:
    (tmp_path.resolve() / "way").symlink_to(precious)
    (tmp_path.resolve() / "over").symlink_to(tmp_path.resolve())

    for path in (tmp_path.resolve() / "way", tmp_path.resolve() / "over" / "precious"):
        done = reap(path, count=0)

        assert (done["gone"]["files"], done["skipped_files"]) == (0, 1)


class Meddler(RealMachine):
    """A machine on which somebody does something at an exact moment: `deed` before the n-th opening of the root."""

    def __init__(self, deed: dict[int, Any]) -> None:
        super().__init__()
        self._deed = deed
        self._opened = 0

    def open_directory(self, path: str) -> Directory:
        self._opened += 1
        if self._opened in self._deed:
            self._deed.pop(self._opened)()
        return super().open_directory(path)


def test_a_directory_that_became_a_link_after_the_scan_is_not_entered(renders: Path, precious: Path) -> None:
    (renders / "job").mkdir()
    for name in ("a", "b", "c"):
        put(renders / "job" / name, age_h=10_000)

    def swap() -> None:
        (renders / "job").rename(renders / "aside")
        (renders / "job").symlink_to(precious)

    done = reap(renders, count=0, machine=Meddler({2: swap}))

    assert done["gone"]["files"] == 0
    assert names(renders / "aside") == ["a", "b", "c"]


def test_a_root_that_became_a_link_after_the_scan_is_not_entered(renders: Path, precious: Path) -> None:
    for name in ("a", "b", "c"):
        put(renders / name, age_h=10_000)

    def swap() -> None:
        renders.rename(renders.parent / "aside")
        renders.symlink_to(precious)

    done = reap(renders, count=0, machine=Meddler({3: swap}))

    assert done["gone"]["files"] == 1


def test_a_directory_that_was_moved_out_takes_its_files_along(renders: Path, tmp_path: Path) -> None:
    (renders / "job").mkdir()
    put(renders / "job" / "a")
    away = tmp_path.resolve() / "away"

    reap(renders, count=0, machine=Meddler({2: lambda: (renders / "job").rename(away)}))

    assert names(away) == ["a"]


def test_another_file_under_the_same_name_stays(renders: Path, precious: Path) -> None:
    put(renders / "a")

    def swap() -> None:
        (renders / "a").unlink()
        put(renders / "a", age_h=100.5)

    done = reap(renders, count=0, machine=Meddler({2: swap}))

    assert (names(renders), done["gone"]["files"]) == (["a"], 0)
    assert done["skipped"][0]["why"] == "is not the file any more that was looked at"


def test_swapping_directories_and_links_all_the_time_gets_nobody_out(renders: Path, precious: Path) -> None:
    over = threading.Event()

    def swap() -> None:
        job, aside, link = renders / "job", renders / "aside", renders / "link"
        job.mkdir()
        link.symlink_to(precious)
        while not over.is_set():
            job.rename(aside)
            link.rename(job)
            job.rename(link)
            aside.rename(job)

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for turn in range(8):
            for name in ("a", "b", "c"):
                try:
                    put(renders / "job" / "sub" / name, age_h=10_000)
                except OSError:
                    put(renders / f"{turn}-{name}", age_h=10_000)
            reap(renders, renders / "job", renders / "link", count=0)
    finally:
        over.set()
        attacker.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_what_is_mounted_below_is_not_entered_also_of_the_same_file_system(renders: Path, precious: Path) -> None:
    (renders / "mounted").mkdir()
    put(renders / "old")
    child = os.fork()
    if child == 0:
        # In a mount namespace of its own, which goes with this process.
        code = 1
        try:
            _unshare()
            assert os.system(f"mount --make-rprivate / && mount --bind {precious} {renders / 'mounted'}") == 0
            done = reap(renders, count=0)
            expected = [{"path": str(renders / "mounted"), "why": "something is mounted there"}]
            code = 0 if (done["gone"]["files"], done["skipped"]) == (1, expected) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _unshare() -> None:
    import ctypes

    new_mounts = 0x00020000
    if ctypes.CDLL(None, use_errno=True).unshare(new_mounts) != 0:
        raise OSError(ctypes.get_errno(), "unshare")

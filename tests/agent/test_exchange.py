"""Changing a file that other programs write at the same moment: nothing of theirs is ever lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import exchange, leases
from reconciler.agent.machine import BusyError
from reconciler.agent.real import RealMachine
from reconciler.agent.splice import splice

WRITES = 1000

RENAMES = """
import json, os, sys
path, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    with open(path) as file:
        document = json.load(file)
    document[f"theirs-{number}"] = number
    document["counter"] += 1
    with open(path + ".theirs", "w") as file:
        json.dump(document, file)
    os.rename(path + ".theirs", path)
"""
IN_PLACE = """
import json, sys
path, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    with open(path, "r+") as file:
        document = json.load(file)
        document[f"theirs-{number}"] = number
        document["counter"] += 1
        file.seek(0)
        file.truncate()
        json.dump(document, file)
"""
READS_THEN_IN_PLACE = """
import json, sys
path, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    with open(path) as file:
        document = json.load(file)
    document[f"theirs-{number}"] = number
    document["counter"] += 1
    with open(path, "w") as file:
        json.dump(document, file)
"""


@pytest.fixture
def control(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "control.json"
    path.write_text('{"prompt": "a fox", "counter": 0, "limits": {"jobs": 1}, "seed": 7}')
    return path


def jobs(value: int) -> exchange.Change:
    return lambda data: splice(data, {"limits.jobs": value})


@pytest.mark.parametrize("program", [RENAMES, IN_PLACE, READS_THEN_IN_PLACE])
def test_a_thousand_writes_of_another_program_lose_nothing(control: Path, program: str) -> None:
    """It writes without a pause and counts; every key, the count and the order it made must be there at the end."""
    other = subprocess.Popen([sys.executable, "-c", program, str(control), str(WRITES)])
    ours, busy = 0, 0
    while other.poll() is None:
        ours += 1
        try:
            exchange.rewrite(str(control), jobs(ours))
        except BusyError:
            busy += 1
    exchange.rewrite(str(control), jobs(-1))

    expected = {"prompt": "a fox", "counter": WRITES, "limits": {"jobs": -1}, "seed": 7}
    expected |= {f"theirs-{number}": number for number in range(WRITES)}
    assert other.returncode == 0
    assert list(json.loads(control.read_text()).items()) == list(expected.items())
    assert [each.name for each in control.parent.iterdir()] == ["control.json"]


def test_owner_mode_and_attributes_stay_and_nothing_is_left_beside(control: Path) -> None:
    control.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(control, 1234, 4321)
    has_attributes = True
    try:
        os.setxattr(control, "user.note", b"mine")
    except OSError:
        has_attributes = False
    before = control.stat()

    assert exchange.rewrite(str(control), jobs(9)) is True

    now = control.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert not has_attributes or os.getxattr(control, "user.note") == b"mine"
    assert control.read_text() == '{"prompt": "a fox", "counter": 0, "limits": {"jobs": 9}, "seed": 7}'
    assert [each.name for each in control.parent.iterdir()] == ["control.json"]


def test_a_file_that_is_as_wanted_is_not_touched(control: Path) -> None:
    before = control.stat()

    assert RealMachine().rewrite(str(control), jobs(1)) is False

    assert control.stat() == before


# -- somebody is there at exactly that moment ------------------------------------------------------------------------


POINTS = ("before the lease", "leased", "before the swap", "after the swap")


def once(at: str, deed: Callable[[], Any]) -> Callable[[str], None]:
    left = [at]

    def between(where: str) -> None:
        if where in left:
            left.remove(where)
            deed()

    return between


def replace(control: Path, key: str) -> None:
    document = json.loads(control.read_text())
    document[key] = True
    other = control.with_name("theirs")
    other.write_text(json.dumps(document))
    other.rename(control)


@pytest.mark.parametrize("at", POINTS[:3])
def test_who_replaces_the_file_in_between_loses_nothing(control: Path, at: str) -> None:
    exchange.rewrite(str(control), jobs(9), once(at, lambda: replace(control, "theirs")))

    assert json.loads(control.read_text()) == {
        "prompt": "a fox",
        "counter": 0,
        "limits": {"jobs": 9},
        "seed": 7,
        "theirs": True,
    }


def test_who_replaces_the_file_by_what_was_read_before_is_written_over_again(control: Path) -> None:
    old = json.loads(control.read_text())

    def replace_blindly() -> None:
        other = control.with_name("theirs")
        other.write_text(json.dumps({**old, "theirs": True}))
        other.rename(control)

    exchange.rewrite(str(control), jobs(9), once("after the swap", replace_blindly))

    assert json.loads(control.read_text()) == {**old, "limits": {"jobs": 9}, "theirs": True}


@pytest.fixture
def writer(control: Path) -> Iterator[Callable[[], None]]:
    """Start a program that writes in place what it has read, and wait until it wants to open the file."""
    program = (
        "import json,sys\np=sys.argv[1]\nd=json.load(open(p))\nd['theirs']=True\nprint('read',flush=True)\n"
        "input()\nprint('opens',flush=True)\nf=open(p,'w')\njson.dump(d,f)\nf.close()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(control)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "read\n"
    stdin, stdout = other.stdin, other.stdout

    def go() -> None:
        stdin.write("\n")
        stdin.flush()
        assert stdout.readline() == "opens\n"
        # Until it is inside open(), where it waits for our lease, or has written.
        threading.Event().wait(0.05)

    yield go
    stdin.close()
    assert other.wait(10) == 0
    stdout.close()
    document = json.loads(control.read_text())
    assert document["theirs"] is True


@pytest.mark.parametrize("at", POINTS)
def test_who_writes_the_file_in_place_in_between_loses_nothing(
    control: Path, writer: Callable[[], None], at: str
) -> None:
    exchange.rewrite(str(control), jobs(9), once(at, writer))


def test_half_a_file_is_no_fault_while_somebody_writes_it(control: Path) -> None:
    whole = control.read_text()
    file = control.open("w")
    file.write(whole[:20])
    file.flush()

    def finish() -> None:
        file.write(whole[20:])
        file.close()

    rest = threading.Timer(0.2, finish)
    rest.start()

    assert exchange.rewrite(str(control), jobs(9)) is True

    rest.join()
    assert json.loads(control.read_text())["limits"] == {"jobs": 9}


def test_a_file_that_somebody_keeps_open_for_writing_is_given_up_on(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "PATIENCE_S", 0.2)
    before = control.read_text()

    with control.open("r+"), pytest.raises(BusyError):
        exchange.rewrite(str(control), jobs(9))

    assert (control.read_text(), [each.name for each in control.parent.iterdir()]) == (before, ["control.json"])


def test_a_reader_that_keeps_the_file_open_is_no_obstacle(control: Path) -> None:
    with control.open():
        assert exchange.rewrite(str(control), jobs(9)) is True


# -- what is not replaced --------------------------------------------------------------------------------------------


def test_a_link_is_not_followed_wherever_it_is_on_the_way(control: Path, tmp_path: Path) -> None:
    (control.parent / "link.json").symlink_to(control)
    (control.parent / "way").symlink_to(control.parent)
    before = control.read_text()

    for path in (control.parent / "link.json", control.parent / "way" / "control.json"):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            exchange.rewrite(str(path), jobs(9))

    assert control.read_text() == before


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "two names", "no JSON", "too large"])
def test_what_is_no_file_of_one_name_is_told_and_left(control: Path, kind: str) -> None:
    if kind != "two names":
        control.unlink()
    if kind == "directory":
        control.mkdir()
    elif kind == "pipe":
        os.mkfifo(control)
    elif kind == "two names":
        os.link(control, control.with_name("other"))
    elif kind == "no JSON":
        control.write_text("jobs: 3")
    elif kind == "too large":
        control.write_text('{"a": "' + "x" * exchange.LIMIT + '"}')
    before = sorted(each.name for each in control.parent.iterdir())

    with pytest.raises((OSError, ValueError)):
        exchange.rewrite(str(control), jobs(9))

    assert sorted(each.name for each in control.parent.iterdir()) == before


def test_a_link_that_comes_in_between_stays_where_somebody_put_it(control: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text('{"limits": {"jobs": 3}}')

    def swap() -> None:
        control.unlink()
        control.symlink_to(precious)

    with pytest.raises(OSError, match="symbolic links"):
        exchange.rewrite(str(control), jobs(9), once("before the swap", swap))

    assert (control.is_symlink(), precious.read_text()) == (True, '{"limits": {"jobs": 3}}')
    assert sorted(each.name for each in control.parent.iterdir()) == ["control.json", "precious"]


@pytest.mark.parametrize("at", POINTS[:3])
def test_without_leases_who_replaces_the_file_loses_nothing_either(
    control: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr(leases, "against_writers", lambda _fd: None)
    monkeypatch.setattr(leases, "against_all", lambda _fd: None)

    exchange.rewrite(str(control), jobs(9), once(at, lambda: replace(control, "theirs")))

    assert list(json.loads(control.read_text())) == ["prompt", "counter", "limits", "seed", "theirs"]

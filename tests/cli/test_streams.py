"""Streams that nobody takes any more, in the middle of a run: how the hosts ended is the exit code all the same."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from reconciler.cli import common
from reconciler.cli.app import run
from reconciler.errors import ExitCode, Problem, ReconError
from tests.scenarios.sim_world import SimWorld


class Fails(io.StringIO):
    """A stream that takes nothing more once it was told something."""

    def __init__(self, last: str, number: int) -> None:
        super().__init__()
        self._last, self._error = last, OSError(number, "no")

    def write(self, text: str) -> int:
        if self._last in self.getvalue():
            raise self._error
        return super().write(text)


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    return SimWorld(tmp_path)


def started(
    world: SimWorld, *argv: str, out: IO[str], err: IO[str] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run as a shell does: what is written is held back by Python until there is enough of it."""
    command = [sys.executable, "-m", "reconciler", "-C", str(world.root), *argv]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, stdout=out, stderr=err, env=env, check=False)


NUMBERS = pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])


@NUMBERS
@pytest.mark.parametrize("argv", [("-o", "json"), ()])
def test_an_apply_that_nobody_watches_any_more_ends_as_its_host_does(
    world: SimWorld, argv: tuple[str, ...], number: int
) -> None:
    out = Fails('"type":"step"', number) if argv else io.StringIO()
    err = io.StringIO() if argv else Fails("begins transaction", number)
    world.recon("apply", "--yes", "--host", "h-1")
    world.set_coven("h-1", "vision")
    world.set_fault("h-1", "vision", "never-healthy")

    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["-C", str(world.root), "apply", "--yes", "--host", "h-1", *argv])

    assert code == ExitCode.ROLLED_BACK
    assert world.status("h-1")["executor"]["active"] is False


@NUMBERS
@pytest.mark.parametrize("argv", [("-o", "json"), ()])
def test_following_to_the_end_goes_without_a_reader_too(world: SimWorld, argv: tuple[str, ...], number: int) -> None:
    world.recon("apply", "--yes", "--host", "h-1")
    txid = world.status("h-1")["executor"]["last"]["value"]["txid"]

    with contextlib.redirect_stdout(Fails("", number)), contextlib.redirect_stderr(Fails("", number)):
        code = run(["-C", str(world.root), "apply", "--attach", txid, "--host", "h-1", *argv])

    assert code == ExitCode.OK


def test_a_result_that_is_not_written_down_is_an_error_and_an_outcome_is_not(world: SimWorld) -> None:
    world.recon("apply", "--yes", "--host", "h-1")
    world.set_coven("h-1", "vision")

    with Path("/dev/full").open("w") as full:
        applied = started(world, "apply", "--yes", "--host", "h-1", out=full)
        looked = started(world, "status", out=full)
        both = started(world, "status", out=full, err=full)

    assert (applied.returncode, b"Exception ignored" in applied.stderr) == (0, False)
    assert (looked.returncode, b"REC7024" in looked.stderr, b"Exception ignored" in looked.stderr) == (1, True, False)
    assert both.returncode == 1


def test_whoever_reads_the_head_alone_is_told_nothing_more(world: SimWorld) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as nobody:
        ran = started(world, "status", out=nobody)

    assert (ran.returncode, ran.stderr) == (0, b"")


def test_an_error_that_cannot_be_told_as_json_is_told_as_text() -> None:
    err = io.StringIO()
    with contextlib.redirect_stdout(Fails("", errno.ENOSPC)), contextlib.redirect_stderr(err):
        common.show_error(ReconError(Problem("REC7024", "no", "because", "do")), as_json=True, command="plan")

    assert "error[REC7024]" in err.getvalue()

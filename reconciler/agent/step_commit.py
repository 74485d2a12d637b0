"""Commit and finish: one symlink decides what boots, and from then on the way is only forward.

Finish brings systemd's view in line with the commit: trial and masks go, units that are no longer declared go, one
reload. What goes wrong there is told; it undoes nothing, and the next apply does it again.

Must not: start or stop anything but the timers of the generation, the spiral and its share.
"""

from __future__ import annotations

from typing import Callable, List

from . import (
    files,
    generations,
    keep,
    leftover,
    outbox,
    places,
    share_deeds,
    spiral,
    step_stage,
    step_trial,
    systemd,
    takeover,
    watch_timer,
)
from .plain import clean
from .record import RecordError
from .txn import HaltError, Run

KEEP = 3


def commit(run: Run) -> None:
    """Make the new generation the one that boots."""
    with run.step("commit", f"committing generation {run.new_generation}"):
        run.machine.mkdir(places.COMMITTED.rsplit("/", 1)[0])
        check_whole(run)
        # Read again directly before the rename: nothing may come between the proof and the deed.
        run.prove_claim()
        takeover.hold_containers(run)
        run.machine.symlink(run.directory, places.COMMITTED)
        run.is_durable = True


def check_whole(run: Run) -> None:
    """HaltError unless what is about to boot lies there as it was checked: an hour may have passed since stage."""
    number, directory = run.new_generation or 0, run.directory
    found = generations.problem(run.machine, number)
    if not found:
        manifest = files.manifest(run.machine, number)
        boots = sorted(files.names_in(run.machine, f"{directory}/{step_stage.BOOT_DIRECTORY}"))
        names = [name for name in run.machine.listdir(directory) if name.endswith(".container")]
        other = sorted(set(names) - {file["name"] for file in run.intent["quadlets"]})
        other += [] if boots == sorted(run.intent["boot"]) else [step_stage.BOOT_DIRECTORY]
        other += [] if manifest.get("txid") == run.txid else [step_stage.MANIFEST]
        found = ", ".join(clean(each) for each in other[:6])
    if found:
        text = f"generation {number} is not as it was checked any more: {found}"
        raise HaltError("REC7220", text, fix=f"recon apply --host {run.intent['host']}")


def is_committed(run: Run) -> bool:
    """Say whether this transaction's generation is the committed one."""
    return run.new_generation is not None and files.committed_if_told(run.machine) == run.new_generation


def finish(run: Run) -> List[str]:
    """Tidy up after the commit; return what could not be done, in words."""
    problems: List[str] = []
    with run.step("finish", "dropping the trial, loading what was committed", guarded=False):
        for deed in (
            _make_sure,
            _drop_trial,
            _keep_off,
            watch_timer.stop,
            _remove_natives,
            _reload,
            watch_timer.start,
            share_deeds.settle,
            spiral.settle,
            _forget,
            _prune,
            _collect,
            keep.let_go,
        ):
            problem = _tried(run, deed)
            if problem:
                problems.append(problem)
                run.note(problem)
    return problems


def _tried(run: Run, deed: Callable[[Run], str]) -> str:
    try:
        return deed(run)
    except (OSError, RecordError, systemd.SystemdError) as error:
        return clean(str(error))


def _make_sure(run: Run) -> str:
    """Make the commit again unless it was told to be on the disk: its sync failed, or who made it was killed first."""
    if not run.is_durable:
        run.machine.symlink(run.directory, places.COMMITTED)
        run.is_durable = True
    return ""


def _drop_trial(run: Run) -> str:
    step_trial.end_trial(run)
    return ""


def _keep_off(run: Run) -> str:
    """Disable or mask what was taken over: until here the commit alone keeps it off."""
    takeover.put_off(run.machine, run.new_generation or 0)
    takeover.let_go(run.machine)
    return ""


def _remove_natives(run: Run) -> str:
    for name in run.intent["remove_natives"]:
        run.machine.remove(f"{places.NATIVE}/{name}")
    return ""


def _reload(run: Run) -> str:
    systemd.daemon_reload(run.machine)
    units = [member["unit"] for group in run.intent["groups"] for member in group["members"]]
    units += [member["unit"] for member in run.intent["residents"]]
    shown = systemd.show_units(run.machine, units) if units else {}
    stale = sorted(unit for unit, state in shown.items() if state.need_reload)
    return f"systemd still has old definitions of {', '.join(stale)}" if stale else ""


def _forget(run: Run) -> str:
    """Forget how far webhooks were told that are gone with their timer: no delivery comes by any more to do it."""
    outbox.forget_undeclared(run.machine)
    return ""


def _prune(run: Run) -> str:
    """Remove generations older than the last three; the committed one and the one before it always stay."""
    names = run.machine.listdir(places.GENERATIONS)
    numbers = sorted(int(name) for name in names if name.isascii() and name.isdigit())
    keep = {*numbers[-KEEP:], run.old_generation, run.new_generation}
    for number in numbers:
        if number not in keep:
            run.machine.remove_tree(places.generation(number))
    return ""


def _collect(run: Run) -> str:
    leftover.collect(run.machine, run.txid)
    return ""

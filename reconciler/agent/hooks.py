"""Hooks: what a coven's owner wants called at certain points of a transition, each with an end.

    before_drain, drain      old side, nothing is stopped yet: one that fails aborts, the old coven goes on serving
    after_stop               old side, it is down: one that fails rolls back
    before_start, after_warm new side: one that fails rolls back
    on_rollback              both sides, on every way back: told, never in the way

A program gets a control group of its own, a scope with one fixed name: whatever it leaves behind, detached or deaf to
SIGTERM, ends with the hook, and an executor that comes after a killed one finds it. There is no shell, no input, and of
its output only the beginning is kept. After a crash a hook may be called again.

Must not: run a program that anybody but root could have changed, or wait for anything without an end.
"""

from __future__ import annotations

import posixpath
from typing import Any, Dict, Iterator, List, Tuple

from . import bounded, systemd
from .machine import Machine
from .plain import clean, clean_lines
from .txn import HaltError, Run, starting, stopping

OUTPUT_LIMIT = 64 << 10
_SCOPE = "recon-hook.scope"
_SLICE = "system.slice"
_GRACE_S = 5.0
_MARGIN_S = 10.0
_END_S = 30.0
_LOOK_S = 5.0
_SHOWN_LINES = 20
_KEPT_LINES = 50
_LINKS = 40
_WRITABLE_BY_OTHERS = 0o022
_EXECUTABLE = 0o111

Hook = Tuple[Dict[str, Any], Dict[str, Any]]


def before_stop(run: Run, event: str, moves: List[Dict[str, Any]]) -> None:
    """Call a hook of every coven that moves stop."""
    for move in moves:
        if stopping(move):
            _call_all(run, event, move["slot"], [move["old"]])


def around_start(run: Run, event: str, move: Dict[str, Any]) -> None:
    """Call a hook of the coven that a move starts."""
    if starting(move):
        _call_all(run, event, move["slot"], [move["new"]])


def on_the_way_back(run: Run, moves: List[Dict[str, Any]]) -> None:
    """Tell both sides of moves that nothing came of it, those first who did not get to serve."""
    for move in moves:
        groups = [group for group in (move["new"], move["old"]) if group is not None]
        names = [group["coven"] for group in groups]
        # A coven that was to replace a part of itself is told once, as it stands again.
        last = [group for at, group in enumerate(groups) if group["coven"] not in names[at + 1 :]]
        _call_all(run, "on_rollback", move["slot"], last)


def check(run: Run) -> None:
    """Refuse programs that are not there, cannot be looked at, or that somebody else than root can change."""
    problems = []
    for group, hook in _hooks(run.intent["moves"]):
        if hook["argv"]:
            problem = _look(run.machine, hook)
            problems += [f"{hook['event']} of {group['coven']}: {problem}"] if problem else []
    if problems:
        raise HaltError("REC7130", "; ".join(problems), fix="put it there as root, mode 0755, or change hooks in git")


def distrust(machine: Machine, path: str) -> str:
    """Say why a program must not be run as root, nothing when it may: every step of its path belongs to root alone."""
    todo = path.split("/")[::-1]
    here, links = "/", 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = posixpath.dirname(here)
            continue
        step = posixpath.join(here, part)
        found = machine.stat(step)
        if found is None:
            return f"{clean(path)} is not there"
        if found.uid not in (0, machine.own_uid):
            return f"{clean(step)} belongs to another user than root"
        if found.kind == "link":
            links += 1
            if links > _LINKS:
                return f"{clean(path)} is a ring of links"
            target = machine.read_link(step)
            todo += target.split("/")[::-1]
            here = "/" if target.startswith("/") else here
            continue
        if found.mode & _WRITABLE_BY_OTHERS:
            return f"{clean(step)} can be changed by others than root"
        here = step
    last = machine.stat(here)
    if last is None or last.kind != "file":
        return f"{clean(path)} is no program"
    return "" if last.mode & _EXECUTABLE else f"{clean(path)} may not be executed"


def _look(machine: Machine, hook: Dict[str, Any]) -> str:
    """Say why the program of a hook must not be run; one that cannot be looked at, or not in time, must not either."""
    path = hook["argv"][0]
    try:
        # It may lie on a share whose server is away: there even a look has no end.
        return bounded.within(lambda: distrust(machine, path), min(hook["timeout_s"], _LOOK_S))
    except OSError as error:
        return f"{clean(path)} cannot be looked at: {clean(error.strerror or str(error))}"


def end_left(machine: Machine) -> bool:
    """End what a hook left running, also one of an executor that was killed; say whether there was anything."""
    if systemd.is_populated(machine, f"/{_SLICE}/{_SCOPE}") is not True:
        return False
    # systemd sends SIGTERM, and SIGKILL after the scope's own timeout.
    systemd.end_and_wait(machine, _SCOPE, _END_S)
    return True


def shown(hook: Dict[str, Any]) -> str:
    """Say in one line what a hook calls."""
    if hook["argv"]:
        return clean(" ".join(hook["argv"]), 200)
    return clean(f"{hook['call']['method']} {hook['call']['url']}", 200)


def _hooks(moves: List[Dict[str, Any]]) -> Iterator[Hook]:
    for move in moves:
        for group in (move["old"], move["new"]):
            # What a host has on record from before there were hooks has none.
            for hook in (group or {}).get("hooks", ()):
                yield group, hook


def _call_all(run: Run, event: str, slot: str, groups: List[Dict[str, Any]]) -> None:
    for group in groups:
        for hook in group.get("hooks", ()):
            if hook["event"] == event:
                _call(run, group, hook, slot)


def _call(run: Run, group: Dict[str, Any], hook: Dict[str, Any], slot: str) -> None:
    event = hook["event"]
    back = event == "on_rollback"
    name = f"{event} of {group['coven']}"
    with run.step("hook", f"{name}: {shown(hook)}", slot, guarded=not back):
        began = run.machine.monotonic()
        problem, output = _program(run, group, hook, slot) if hook["argv"] else _http(run, hook)
        if not problem and run.machine.monotonic() - began >= hook["timeout_s"]:
            problem = "ended well, but too late"
        for line in output[-_SHOWN_LINES:]:
            run.note(f"{event} says: {line}")
        if not problem:
            return
        took = f"{run.machine.monotonic() - began:.1f} of {hook['timeout_s']:g} s"
        text = f"hook {name} failed after {took}: {problem}"
        if back or hook["on_timeout"] == "continue":
            run.note(f"{text}; the plan says continue")
            return
        run.logs[f"hook {name}"] = output[-_KEPT_LINES:]
        raise HaltError("REC7132", text)


def _program(run: Run, group: Dict[str, Any], hook: Dict[str, Any], slot: str) -> "tuple[str, List[str]]":
    """Run a program to its end or its deadline; return what is wrong with how it ended, and its output."""
    machine, timeout_s = run.machine, hook["timeout_s"]
    # Looked at again right before: what was staged may be an hour ago.
    problem = _look(machine, hook)
    if problem:
        return problem, []
    end_left(machine)
    done = machine.run(
        scope_argv(hook["argv"], timeout_s),
        timeout_s + _GRACE_S + _MARGIN_S,
        env={
            "RECON_HOOK": hook["event"],
            "RECON_HOST": run.intent["host"],
            "RECON_SLOT": slot,
            "RECON_COVEN": group["coven"],
            "RECON_TXID": run.txid,
        },
    )
    if end_left(machine):
        run.note(f"{hook['event']} left processes behind; they were ended")
    output = clean_lines((done.out + b"\n" + done.err)[:OUTPUT_LIMIT], OUTPUT_LIMIT)
    return _how_it_ended(done.rc), output


def scope_argv(argv: List[str], timeout_s: float) -> List[str]:
    """Return the words that run a program in a scope which systemd itself ends: SIGTERM first, then SIGKILL."""
    return [
        "systemd-run",
        "--scope",
        f"--unit={_SCOPE}",
        f"--slice={_SLICE}",
        "--collect",
        "--quiet",
        "--no-ask-password",
        "--expand-environment=no",
        f"--property=RuntimeMaxSec={timeout_s:g}",
        f"--property=TimeoutStopSec={_GRACE_S:g}",
        "--",
        *argv,
    ]


def _how_it_ended(rc: int) -> str:
    if rc == 0:
        return ""
    if rc == 124:
        return "it did not end, and could not be ended in time"
    return f"ended by signal {-rc}" if rc < 0 else f"exit status {rc}"


def _http(run: Run, hook: Dict[str, Any]) -> "tuple[str, List[str]]":
    call = hook["call"]
    body = None if call["body"] is None else call["body"].encode("utf-8")
    answer = run.machine.http(call["method"], call["url"], hook["timeout_s"], body, OUTPUT_LIMIT)
    output = clean_lines(answer.body[:OUTPUT_LIMIT], OUTPUT_LIMIT)
    if 200 <= answer.status < 300:
        return "", output
    return (f"answered {answer.status}" if answer.status else "did not answer"), output

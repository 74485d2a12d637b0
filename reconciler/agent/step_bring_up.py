"""Bring up: memory, trial, then start and judge, again up to the attempts that its services allow.

Starting again blindly makes it worse: each failed load may leave a little less memory free. So between two attempts
everything of the failed one is stopped, its control groups are empty, and the memory is measured as free like before
the first. The time for warming up is one for all attempts together. Only a failure is followed by another attempt (a
crash loop, a server that ended or refuses to work); not one that starting again cannot change, nor a deadline.

Must not: decide what follows when nothing comes up; the executor does.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from . import container_names, files, hooks, spiral, step_memory, step_start, step_stop, step_trial, systemd, takeover
from .record import RecordError
from .txn import HaltError, Run, starting, stopping, units_of


class Side(NamedTuple):
    """What is brought up together: `group` is the whole coven (by target and gate), None for single services."""

    what: str
    slot: Optional[str]
    members: List[Dict[str, Any]]
    group: Optional[Dict[str, Any]]
    need: step_memory.Need
    hashed: bool = True
    back: bool = False


def bring_up(run: Run, move: Dict[str, Any]) -> None:
    """Bring up the new side of a move; HaltError when it does not come up in its attempts."""
    members, slot = starting(move), move["slot"]
    hooks.around_start(run, "before_start", move)
    step_memory.verify_memory(run, move, [*units_of(stopping(move)), *takeover.gone(move)])
    container_names.check_starting(run, move)
    step_trial.begin_trial(run, members, slot)
    run.touched.add(slot)
    group = move["new"] if move["kind"] == "switch" else None
    until_up(run, Side(move["new"]["coven"], slot, members, group, step_memory.need_of(move)))
    hooks.around_start(run, "after_warm", move)


def bring_back(run: Run, move: Dict[str, Any]) -> None:
    """Bring the old side of a move up again, with the attempts that it allows; HaltError when that fails."""
    members = stopping(move)
    need = step_memory.need_of_members(run, move, members)
    step_memory.wait_free(run, need, units_of([*starting(move), *members]))
    group = move["old"] if move["kind"] == "switch" else None
    until_up(run, Side(move["old"]["coven"], move["slot"], members, group, need, back=True))


def judge_left(run: Run) -> None:
    """Judge what runs, was not started here and would be committed for the first time; HaltError when it is not up.

    Every executor of an earlier transaction may have been killed while what it had started was on trial.
    """
    started = {member["unit"] for move in run.intent["moves"] for member in starting(move)}
    started.update(run.intent["restart_residents"])
    before = _committed_hashes(run)
    left = [
        member
        for member in files.live_members({**run.intent, "live": run.intent["manifest_live"]})
        if member["unit"] not in started and before.get(member["unit"]) != member["config_hash"]
    ]
    if left:
        with run.step("warm", f"judging {', '.join(member['service'] for member in left)}, left running by another"):
            step_start.judge(run, left, is_left=True)


def _committed_hashes(run: Run) -> Dict[str, str]:
    """Return the configuration of every unit that the committed generation runs, none when it cannot be read."""
    if run.old_generation is None:
        return {}
    try:
        members = files.live_members(files.manifest(run.machine, run.old_generation))
        return {member["unit"]: member["config_hash"] for member in members}
    except (OSError, RecordError, KeyError):
        return {}


def until_up(run: Run, side: Side) -> None:
    """Start and judge until it serves; HaltError of the last attempt when there is no other."""
    ends = run.machine.monotonic() + step_start.longest_warm(side.members)
    most = allowed(side.members)
    told: Dict[str, Any] = {"what": side.what, "slot": side.slot, "used": 0, "allowed": most, "back": side.back}
    run.attempts.append(told)
    why = ""
    while True:
        told["used"] += 1
        try:
            _attempt(run, side, ends, _said(told, why))
            return
        except HaltError as halt:
            if not _may_try_again(run, side, halt, told["used"], ends):
                if told["used"] > 1:
                    halt.reason = f"{halt.reason}; attempt {told['used']} of {told['allowed']}"
                # A claim that was lost in between says nothing about the coven.
                halt.gave_up = bool(halt.units)
                raise
            why = halt.reason
            _reclaim(run, side, halt, ends)


def allowed(members: List[Dict[str, Any]]) -> int:
    """Return the most attempts that any of these services allows."""
    return max((int(member["attempts"]) for member in members), default=1)


def _said(told: Dict[str, Any], why: str) -> str:
    return f" (attempt {told['used']} of {told['allowed']}: {why})" if why else ""


def _attempt(run: Run, side: Side, ends: float, said: str) -> None:
    units = units_of(side.members)
    if side.back:
        # Within the one step back, which may finish whoever has the claim by now.
        if said:
            run.note(f"starting {side.what} again{said}")
        _start(run, side)
        step_start.judge(run, side.members, hashed=side.hashed, ends=ends)
        return
    with run.step("start", f"starting {side.what}: {', '.join(units)}{said}", side.slot):
        run.prove_claim()
        _start(run, side)
    with run.step("warm", f"judging {', '.join(member['service'] for member in side.members)}", side.slot):
        step_start.judge(run, side.members, hashed=side.hashed, ends=ends)


def _start(run: Run, side: Side) -> None:
    if side.slot is not None:
        # Its gate would not open, and three attempts would be spent on finding that out.
        spiral.refuse_down(run.machine, run.intent["host"])
    if side.group is not None:
        step_start.start_group(run, side.group)
    else:
        step_start.start_members(run, side.members)


def _may_try_again(run: Run, side: Side, halt: HaltError, used: int, ends: float) -> bool:
    """Say whether another attempt follows: each service that failed allows one more, and there is time left."""
    failed = [member for member in side.members if member["unit"] in halt.units]
    if not halt.again or not failed or run.machine.monotonic() >= ends:
        return False
    return all(used < int(member["attempts"]) for member in failed)


def _reclaim(run: Run, side: Side, halt: HaltError, ends: float) -> None:
    """Take everything of a failed attempt away and see that its memory is free; HaltError names both when it is not."""
    try:
        if side.back:
            _stop(run, side)
            _wait_free(run, side, ends)
            return
        with run.step("stop", f"stopping what did not come up: {halt.reason}", side.slot):
            run.prove_claim()
            _stop(run, side)
        with run.step("verify_memory", "waiting until the memory of the attempt is free", side.slot):
            _wait_free(run, side, ends)
    except (HaltError, systemd.SystemdError) as then:
        code, fix = (then.code, then.fix) if isinstance(then, HaltError) else (halt.code, halt.fix)
        both = HaltError(code, f"{halt.reason}; then {then}", fix=fix)
        both.units, both.gave_up = halt.units, True
        raise both from then


def _stop(run: Run, side: Side) -> None:
    units = units_of(side.members)
    groups = step_stop.cgroups(run, units)
    if side.group is not None:
        step_stop.stop_group(run, side.group)
    else:
        step_stop.stop_up(run, units)
    step_stop.wait_gone(run, groups, step_stop.longest_stop(side.members))


def _wait_free(run: Run, side: Side, ends: float) -> None:
    left_s = max(0.0, ends - run.machine.monotonic())
    need = side.need._replace(timeout_s=min(side.need.timeout_s, left_s))
    step_memory.wait_free(run, need, units_of(side.members))

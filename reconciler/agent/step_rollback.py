"""Rollback: what was taken down goes away, what was there before comes back, and is judged like anything new.

It needs no memory of how far the way forward came: with the undo record and the intent it looks at systemd and decides.
So the same code ends a transaction whose executor was killed.

What fails on one slot keeps nothing else from serving again; the first failure is raised when all the rest is done.

Must not: start the old coven while anything of the new one has a process, or while its memory is not free.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List, Sequence

from . import (
    admission,
    given_gpus,
    hooks,
    running,
    share,
    share_deeds,
    step_bring_up,
    step_drain,
    step_memory,
    step_start,
    step_stop,
    step_trial,
    step_undo,
    systemd,
    takeover,
)
from .journal import boot_id
from .txn import HaltError, Run, starting, stopping, units_of

# A claim that is lost, and covens that a person has down: true for every slot, so nothing more is tried.
_OF_THE_HOST = ("REC7113", "REC7360")


def rollback(run: Run) -> None:
    """Bring the old covens back; HaltError when that does not succeed everywhere: then nothing more is tried."""
    moves = [move for move in reversed(run.intent["moves"]) if move["slot"] in run.touched]
    failed: List[HaltError] = []
    with run.step("rollback", "going back to what ran before", guarded=False):
        # Early, for what follows may fail; once more at the end, where a rule that stays is told.
        with contextlib.suppress(HaltError):
            admission.admit(run)
        _let_go(run)
        down = [member["unit"] for member in run.residents if _apart(run, failed, _stop_resident, run, member)]
        standing = [move for move in moves if stopping(move) and _stands(run, move)]
        stuck = [move for move in moves if move not in standing and not _apart(run, failed, _stop_new, run, move)]
        step_trial.end_trial(run)
        step_undo.restore_natives(run)
        takeover.tidy(run)
        step_undo.recommit(run)
        systemd.daemon_reload(run.machine)
        # Here and not at the end: a host that is held must not keep what failed either.
        step_undo.remove_generation(run)
        back = []
        for move in moves:
            if move in standing:
                is_back = _apart(run, failed, _judge_standing, run, move)
            else:
                is_back = not _is_blocked(run, move, stuck) and _apart(run, failed, _start_old, run, move)
            back += [move] if is_back else []
        _apart(run, failed, _start_others, run, [*(unit for unit in run.was_up if unit in down), *run.orphans])
        step_drain.resume(run)
        _apart(run, failed, admission.admit, run)
        hooks.on_the_way_back(run, back)
        if failed:
            failed[0].units = [unit for halt in failed for unit in halt.units]
            raise failed[0]


def _apart(run: Run, failed: List[HaltError], deed: Callable[..., None], *args: Any) -> bool:
    """Do one part of the way back and say whether it succeeded; what fails for the whole host is raised at once."""
    try:
        deed(*args)
    except (HaltError, systemd.SystemdError) as error:
        # What systemd refuses, it refuses of one unit; when it is away, every part fails in its turn.
        halt = error if isinstance(error, HaltError) else HaltError("REC7109", str(error))
        if halt.code in _OF_THE_HOST:
            raise
        run.note(f"going on with the rest, for this has failed: {halt.reason}")
        failed.append(halt)
        return False
    return True


def _is_blocked(run: Run, move: Dict[str, Any], stuck: List[Dict[str, Any]]) -> bool:
    """Say whether something that does not stop is where the old side of a move would start."""
    if move in stuck:
        return True
    if not any(given_gpus.would_meet(run, other, move) for other in stuck):
        return False
    run.note(f"slot {move['slot']} stays empty: what does not stop was given a GPU that its old coven needs")
    return True


def _let_go(run: Run) -> None:
    """Let slots serve on that were drained with the others and never stopped: what fails elsewhere is not theirs.

    An empty slot on which nothing was started yet is told with them: the hook before its start may have been called.
    """
    moves = [move for move in run.intent["moves"] if move["slot"] not in run.touched]
    if not moves:
        return
    try:
        step_drain.resume(run, [unit for move in moves for unit in units_of(stopping(move))])
        hooks.on_the_way_back(run, moves)
    except (HaltError, OSError, systemd.SystemdError) as error:  # nothing of it may stop the way back of the others
        run.note(f"not everything was told that it serves on: {error}")


def find_touched(run: Run) -> None:
    """Find out which moves an executor that is gone had begun: those whose old members do not all serve as before.

    One that serves as before may have been started again, by a way back that was killed: nobody has judged it then.
    """
    for move in run.intent["moves"]:
        if not _stands(run, move) or not _ran_on(run, stopping(move)):
            run.touched.add(move["slot"])
    for member in run.intent["residents"]:
        is_left = _is_other(run, member) and _ran_on(run, [member])
        if member["unit"] in run.intent["restart_residents"] and not is_left:
            run.residents.append(member)
            run.was_up.append(member["unit"])
    run.orphans = [*run.intent["stop_units"], *share_deeds.left(run)]
    beside = step_stop.committed_members(run, [*run.orphans, *run.intent["restart_residents"]])
    for member in [*(member for move in run.intent["moves"] for member in stopping(move)), *beside]:
        if member["resume"]:
            run.paused[member["unit"]] = member


def _is_other(run: Run, member: Dict[str, Any]) -> bool:
    """Say whether a resident still runs as it did before: up, and not with the new configuration."""
    state = systemd.show_units(run.machine, [member["unit"]]).get(member["unit"])
    if state is None or state.active != "active":
        return False
    return running.config_hash(run.machine, state.main_pid).get("value") != str(member["config_hash"])


def _stands(run: Run, move: Dict[str, Any]) -> bool:
    """Say whether all of the old side is up with its configuration, and nothing of the new one is."""
    there = _serves(run, stopping(move)) and not _any_up(run, _only_new(move))
    return there and not takeover.is_begun(run, move)


def _ran_on(run: Run, members: List[Dict[str, Any]]) -> bool:
    """Say whether members run as the same runs as before anything was replaced; what is not on record is not known."""
    if not members:
        return True
    # A record of an older agent has none: to judge what was never stopped disturbs nobody, to trust it might.
    undo = step_undo.read_undo(run.machine, run.txid) or {}
    boot, before = undo.get("boot_id"), undo.get("ran", {})
    if boot and boot != boot_id(run.machine):
        return True  # the boot started what is committed by itself, and no way back did
    shown = systemd.show_units(run.machine, units_of(members))
    return all(unit in shown and shown[unit].invocation == before.get(unit) for unit in units_of(members))


def _judge_standing(run: Run, move: Dict[str, Any]) -> None:
    """Judge an old side that stands as it was: stopping it would only disturb whom it serves."""
    members = stopping(move)
    # One that still takes no work would not pass.
    step_drain.resume(run, units_of(members))
    try:
        step_start.judge(run, members, is_left=True)
    except HaltError as halt:
        if not halt.again:
            raise
        # It crashes where it stands: to start it anew, with its attempts, disturbs nobody.
        run.note(f"it does not come up as it stands, so it is started anew: {halt.reason}")
        _stop_new(run, move)
        _start_old(run, move)


def _serves(run: Run, members: List[Dict[str, Any]]) -> bool:
    if not members:
        return True
    shown = systemd.show_units(run.machine, units_of(members))
    for member in members:
        state = shown.get(member["unit"])
        if state is None or state.active != "active" or state.job:
            return False
        if running.config_hash(run.machine, state.main_pid).get("value") != member["config_hash"]:
            return False
    return True


def _only_new(move: Dict[str, Any]) -> List[str]:
    old = set(units_of(stopping(move)))
    return [unit for unit in units_of(starting(move)) if unit not in old]


def _any_up(run: Run, units: Sequence[str]) -> bool:
    shown = systemd.show_units(run.machine, units) if units else {}
    # One whose start is queued is about to be.
    return any(state.active not in ("inactive", "failed") or state.job for state in shown.values())


def _stop_new(run: Run, move: Dict[str, Any]) -> None:
    """Stop whatever of both sides is up: the old side may be half-way down."""
    members = [*starting(move), *stopping(move)]
    units = sorted(set(units_of(members)))
    groups = step_stop.cgroups(run, units)
    if move["kind"] == "switch":
        for group in (move["new"], move["old"]):
            if group is not None:
                step_stop.stop_group(run, group)
    else:
        up = [unit for unit in units if _any_up(run, [unit])]
        if up:
            systemd.stop(run.machine, up)
    step_stop.wait_gone(run, groups, step_stop.longest_stop(members))


def _start_old(run: Run, move: Dict[str, Any]) -> None:
    takeover.give_back(run, move)
    if not stopping(move):
        run.note(f"slot {move['slot']} is empty again", "done")
        return
    if run.old_generation is None and not step_stop.known(run, units_of(stopping(move))):
        # Somebody opened the gate of a coven that was never committed: it had no services to bring back.
        run.note(
            f"nothing to bring back on slot {move['slot']}: none of {move['old']['coven']} was there before", "done"
        )
        return
    step_bring_up.bring_back(run, move)


def _stop_resident(run: Run, member: Dict[str, Any]) -> None:
    unit = member["unit"]
    groups = step_stop.cgroups(run, [unit])
    step_stop.stop_known(run, [unit])
    # Either may be up: the new one, or the old one that has not gone yet.
    step_stop.wait_gone(run, groups, step_stop.longest_stop([member, *step_stop.committed_members(run, [unit])]))


def _start_others(run: Run, units: List[str]) -> None:
    """Start again what was stopped beside the moves and is still defined: residents as they were, orphans."""
    shown = systemd.show_units(run.machine, units) if units else {}
    wanted = [unit for unit, state in shown.items() if state.load == "loaded"]
    if not wanted:
        return
    # What ran before may have needed more, or less, than what the intent says; the committed generation knows.
    before = step_stop.committed_members(run, wanted)
    down = [member for member in before if shown[member["unit"]].active in ("inactive", "failed")]
    step_memory.verify_residents(run, step_memory.need_of_residents_before(run, down), down)
    systemd.reset_failed(run.machine, wanted)
    # The mount of a share may still be on its way out, for its hub is away: its start waits for that.
    shares = [unit for unit in wanted if unit.startswith(share.PREFIX)]
    if shares:
        systemd.start_all(run.machine, shares)
    rest = [unit for unit in wanted if unit not in shares]
    if rest:
        systemd.start(run.machine, rest)
    restarted = units_of(run.residents)
    step_start.judge(run, [member for member in before if member["unit"] in restarted])
    # Of one that was never committed the intent knows the new definition only, so which hash it carries is not asked.
    known = units_of(before)
    unknown = [member for member in run.residents if member["unit"] in wanted and member["unit"] not in known]
    step_start.judge(run, unknown, hashed=False)

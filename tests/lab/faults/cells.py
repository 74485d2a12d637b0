"""How each cell of the matrix is made on a real host, and which ends of it are right.

A cell is a small function: it arms the fault, lets recon work, and returns what came of it as a letter of the matrix.
The caller checks what must hold whatever happened: never two covens, and one more apply ends where it was to go.

Must not: be lenient; a letter is only given for a state that was looked at on the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.matrix import CELLS, FAULTS, STEPS
from tests.lab.faults.arena import OTHER, PORTS, Arena, Standing
from tests.scenarios.world import Ran


@dataclass(frozen=True)
class Point:
    """A step as a change that the executor makes in it; `when` says on which side of it a fault strikes."""

    at: str
    when: str = "before"
    nth: int = 1


POINTS = {
    "T3": Point(r"^write /var/lib/recon/epoch$"),
    "T4": Point(r"^write /run/recon/lease.json$", "after"),
    "T5": Point(r"^write /etc/recon/generations/\d+/recon-", nth=2),
    "T6": Point(r"^append \S+journal.jsonl"),
    "T7": Point(r"step=drain status=begin", "after"),
    "T8": Point(r"^run systemctl stop", "after"),
    "T9": Point(r"step=verify_memory status=begin", "after"),
    "T10": Point(r"^symlink /run/containers/systemd/recon-trial$", "after"),
    "T11": Point(r"^run systemctl start"),
    "T12": Point(r"step=warm status=begin", "after"),
    "T13": Point(r"^symlink /etc/containers/systemd/recon$"),
    "T14": Point(r"step=finish status=begin", "after"),
    "RB": Point(r"step=rollback status=begin", "after"),
}
BEFORE_ANYTHING_RUNS = ("T3", "T4", "T5", "T6")

Play = Callable[[Arena, str, str], str]
"""Play a step's cell on a host from one coven to the other; returns the letter of what came of it."""


def letter(arena: Arena, ran: Ran, before: Standing, new: str) -> str:
    """Name the end of a transition by what the host shows and what recon said; an end of no name is a failure."""
    now = arena.standing()
    old = before.committed
    unchanged = now.serving == (old,) and now.generation == before.generation
    match now.state, ran.code:
        case "applied", 0 if now.serving == (new,) and now.committed == new:
            return "F"
        case "rolled_back", 6 if unchanged:
            return "R"
        case "aborted", 3 if unchanged:
            return "A"
        case (("refused" | "stale" | "locked"), (3 | 4 | 5)) if unchanged:
            return "X"
        case "held", 7 if now.serving in {(), (old,), (new,)}:
            return "H"
    if unchanged and ran.code not in {0, 6} and now.txid == before.txid:
        return "N" if ran.code in {1, 8} else "X"
    raise AssertionError(f"an end without a name: exit {ran.code}, {now}, before {before}\n{ran.out}\n{ran.err}")


def crashing(arena: Arena, new: str) -> None:
    """Let the new coven never come up, so that the way back is taken."""
    arena.machine.fault(PORTS[new], {"crash-at-start": True})


CLAIM_LOST = {**POINTS, "T13": Point(r"step=commit status=begin", "after")}
"""Where a claim is taken away: before it is proven for the change, for afterwards nobody can tell it any more."""


def armed(arena: Arena, step: str, new: str, do: str, points: dict[str, Point] | None = None, **more: object) -> None:
    if step == "RB":
        crashing(arena, new)
    point = (points or POINTS)[step]
    arena.arm(point.at, do, when=point.when, nth=point.nth, **more)


# -- the executor is killed, the power goes, a write fails, the clock jumps: one word of the failpoint each ------------


def the_executor_is_killed(arena: Arena, step: str, new: str) -> str:
    """Kill it; at the commit right after the rename, for the rename decides."""
    before = arena.standing()
    if step == "T13":
        arena.arm(POINTS[step].at, "kill", when="after")
    else:
        armed(arena, step, new, "kill")
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    return letter(arena, ran, before, new)


def a_write_fails(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    armed(arena, step, new, "fail", errno=28)
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    return letter(arena, ran, before, new)


def the_clock_jumps(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    armed(arena, step, new, "clock", seconds=-315_360_000 if step in {"T8", "T12"} else 3600)
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    found = letter(arena, ran, before, new)
    return "I" if found == ("R" if step == "RB" else "F") else found


def the_power_goes(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    armed(arena, step, new, "stop")
    with arena.applying() as process:
        arena.wait_fired()
        process.kill()
        arena.machine.heal()
        arena.power_cut()
    now = arena.wait_serving()
    if now.generation == before.generation:
        return "N" if step in BEFORE_ANYTHING_RUNS[:3] else "P"
    assert (step, now.committed) == ("T14", new), now
    return "P"


# -- recon goes away ---------------------------------------------------------------------------------------------------


def recon_is_killed(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    armed(arena, step, new, "stop")
    with arena.applying() as process:
        arena.wait_fired()
        process.kill()
        process.wait()
        arena.go_on()
        now = arena.wait_end()
    return _by_itself(now, before, new, step)


def the_connection_is_cut(arena: Arena, step: str, new: str) -> str:
    """Kill every SSH session of the host while the executor stands still; recon connects again and follows."""
    before = arena.standing()
    armed(arena, step, new, "stop")
    with arena.applying() as process:
        arena.wait_fired()
        arena.machine.run(["pkill", "-KILL", "-f", "sshd-session"], check=False)
        arena.go_on()
        out, _ = process.communicate(timeout=90)
    return _as_ended(letter(arena, Ran(process.returncode, out.decode(), ""), before, new), step)


def _by_itself(now: Standing, before: Standing, new: str, step: str) -> str:
    if step == "RB":
        assert (now.state, now.serving, now.generation) == ("rolled_back", (before.committed,), before.generation), now
        return "F"
    assert (now.state, now.serving, now.committed) == ("applied", (new,), new), now
    return "F"


def _as_ended(found: str, step: str) -> str:
    return "F" if (step, found) == ("RB", "R") else found


# -- somebody else acts ------------------------------------------------------------------------------------------------


def somebody_else_applies(arena: Arena, step: str, new: str) -> str:
    """A second recon that wants something else is told who has the host, while the first goes on to its end."""
    before = arena.standing()
    armed(arena, step, new, "stop")
    with arena.applying() as process:
        arena.wait_fired()
        arena.want(OTHER[new])
        second = arena.apply()
        arena.want(new)
        arena.go_on()
        out, _ = process.communicate(timeout=90)
    first = _as_ended(letter(arena, Ran(process.returncode, out.decode(), ""), before, new), step)
    assert first == "F", out.decode()
    assert second.code == 4, second.out + second.err
    return "X"


def the_lease_is_taken_away(arena: Arena, step: str, new: str) -> str:
    """Stop the executor, let a newer claim be made as a second one would make it, and let the first go on."""
    before = arena.standing()
    armed(arena, step, new, "stop", CLAIM_LOST)
    with arena.applying() as process:
        arena.wait_fired()
        bump_epoch(arena)
        arena.go_on()
        out, _ = process.communicate(timeout=120)
    found = letter(arena, Ran(process.returncode, out.decode(), ""), before, new)
    return "I" if (step, found) == ("T14", "F") else found


def bump_epoch(arena: Arena) -> None:
    """Make the newest epoch one higher, with the agent's own hand."""
    agents = arena.machine.path("/var/lib/recon/agent")
    place = next(path.name for path in agents.iterdir() if (path / ".ok").exists())
    code = (
        f"import sys; sys.path.insert(0, '/var/lib/recon/agent/{place}')\n"
        "from recon_agent import lease, real\n"
        "m = real.RealMachine()\n"
        "lease.advance(m) if hasattr(lease, 'advance') else m.write('/var/lib/recon/epoch', "
        "b'%d\\n' % (lease.read_epoch(m) + 1))\n"
    )
    arena.machine.run(["/usr/bin/python3", "-I", "-S", "-c", code])


def a_state_file_is_corrupt(arena: Arena, step: str, new: str) -> str:
    """Damage the epoch at the step: who cannot prove a claim does not go on. At the launch, damage the order itself."""
    before = arena.standing()
    if step == "T6":
        order = "$(ls -td /var/lib/recon/txn/*/intent.json | head -n 1)"
        arena.arm("^begin$", "call", argv=["/bin/sh", "-c", f'printf rubbish > "{order}"'])
    else:
        rubbish = ["/bin/sh", "-c", "printf rubbish > /var/lib/recon/epoch"]
        armed(arena, step, new, "call", CLAIM_LOST, argv=rubbish)
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    return letter(arena, ran, before, new)


# -- services, memory, generators, images ------------------------------------------------------------------------------


def the_new_coven_crashes(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    how: dict[str, float | bool] = {"crash-at-start" if step == "T11" else "crash-after-ready": True}
    arena.machine.fault(PORTS[new], how)
    return letter(arena, arena.apply(), before, new)


def both_covens_crash(arena: Arena, step: str, new: str) -> str:
    """The way back does not come up either: held, with the memory free and nothing half-way."""
    del step
    before = arena.standing()
    for coven in PORTS:
        arena.machine.fault(PORTS[coven], {"crash-at-start": True})
    return letter(arena, arena.apply(), before, new)


def memory_does_not_come_back(arena: Arena, step: str, new: str) -> str:
    del step
    before = arena.standing()
    arena.machine.gpu({"faults": {"release_s": None}})
    return letter(arena, arena.apply(), before, new)


def the_reload_fails(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    nth = {"T10": 1, "T11": 1, "T14": 2, "RB": 2}[step]
    if step == "RB":
        crashing(arena, new)
    arena.arm(r"^run systemctl daemon-reload", "fail", nth=nth)
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    return letter(arena, ran, before, new)


def the_driver_says_nothing(arena: Arena, step: str, new: str) -> str:
    """NVML answers with an error from a step on until the way back: what is not known is never free."""
    before = arena.standing()
    steered = ["/usr/bin/python3", "/opt/recon-lab/lab_gpud.py", "--control"]
    answers = {"at": r"step=rollback status=begin", "do": "call", "argv": [*steered, '{"reset": true}']}
    silent = '{"faults": {"extra": {"fail.nvmlInit": "!18"}}}'
    armed(arena, step, new, "call", argv=[*steered, silent], then=answers)
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    return letter(arena, ran, before, new)


_BY_FAULT: dict[str, tuple[Play, tuple[str, ...]]] = {
    "C1": (recon_is_killed, ("T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C2": (the_connection_is_cut, ("T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C3": (the_power_goes, ("T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C4": (the_executor_is_killed, ("T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C8": (a_write_fails, ("T3", "T4", "T5", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C9": (somebody_else_applies, ("T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C10": (the_lease_is_taken_away, ("T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C11": (the_clock_jumps, ("T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C13": (a_state_file_is_corrupt, ("T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14", "RB")),
    "C5": (the_new_coven_crashes, ("T11", "T12")),
    "C6": (memory_does_not_come_back, ("T9",)),
    "C14": (the_reload_fails, ("T10", "T14", "RB")),
    "C12": (the_driver_says_nothing, ("T9",)),
}

PLAYS: dict[str, Play] = {f"{step}-{fault}": play for fault, (play, steps) in _BY_FAULT.items() for step in steps}
PLAYS["RB-C5"] = both_covens_crash
"""By the name of the cell."""

OURS = {
    # Lease and stage are the executor's here, and it needs no controller.
    **dict.fromkeys(("T3-C1", "T4-C1", "T5-C1", "T3-C2", "T4-C2", "T5-C2"), "F"),
    # Refused with a name, which says more than "nothing changed".
    "T4-C8": "X",
    # A second apply is refused here as at every other step, and the first goes on.
    "T12-C9": "X",
}
"""Cells whose right outcome is another one here, and why."""


def right(name: str) -> frozenset[str]:
    """Return the letters that are right for a cell."""
    cell = CELLS[name]
    return frozenset(cell.outcomes) | frozenset(OURS.get(name, ""))


@functools.cache
def sample() -> tuple[str, ...]:
    """Return the cells of the everyday run: every third one, so that each step and each fault is among them."""
    order = {name: number for number, name in enumerate((*STEPS, *FAULTS))}
    return tuple(name for name in PLAYS if sum(order[part] for part in name.split("-")) % 3 == 1)


def target(old: str) -> str:
    """Return the coven that a host is moved to."""
    return OTHER[old]

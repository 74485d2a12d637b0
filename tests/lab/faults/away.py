"""The cells before a host is claimed in which somebody goes or comes: recon, the connection, the power, another recon.

Must not: call a state right that was not looked at on the host.
"""

from __future__ import annotations

import signal

from tests.lab.faults.arena import Arena, wait_for
from tests.lab.faults.cells import Play, bump_epoch, letter
from tests.lab.faults.struck import SLOW_DRIVER, expected, stopped_at, told
from tests.scenarios.world import Ran

# -- recon, the connection or the host goes away -----------------------------------------------------------


def recon_is_killed(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    ran = told(arena, step, "kill")
    assert ran.code == -signal.SIGKILL, ran
    assert arena.standing() == before
    return "N"


def wait_observing(arena: Arena) -> None:
    """Wait until the agent on the host is at its answer."""
    busy = ["pgrep", "-f", "^/usr/bin/python3[.0-9]* -I -S -c"]
    wait_for(lambda: arena.machine.run(busy, check=False).returncode == 0 or None, "nobody observes")


def the_connection_drops(arena: Arena, step: str, new: str) -> str:
    """Kill the session while the agent answers; once it is all planned, let nobody in any more."""
    before = arena.standing()
    if step == "T1":
        arena.machine.gpu(SLOW_DRIVER)
        with arena.applying() as process:
            wait_observing(arena)
            arena.machine.run(["pkill", "-KILL", "-f", "sshd-session"])
            out, _ = process.communicate(timeout=90)
        ran = Ran(process.returncode, out.decode(), "")
    else:
        arena.machine.run(["nft", "add", "table", "ip", "cut"])
        try:
            with stopped_at(arena, step) as recon:
                arena.machine.run(["nft", "add chain ip cut input { type filter hook input priority 0; }"])
                arena.machine.run(["nft", "add rule ip cut input tcp dport 22 drop"])
                recon.go_on()
                ran = recon.end()
        finally:
            arena.machine.run(["nft", "delete", "table", "ip", "cut"])
    assert ran.code == 8, ran
    return letter(arena, ran, before, new)


def the_power_goes(arena: Arena, step: str, new: str) -> str:
    """Cut the power; between plan and claim the host is up again by the time the order comes."""
    before = arena.standing()
    if step == "T1":
        arena.machine.gpu(SLOW_DRIVER)
        with arena.applying() as process:
            wait_observing(arena)
            arena.power_cut()
            out, _ = process.communicate(timeout=120)
        ran = Ran(process.returncode, out.decode(), "")
    elif step == "T2":
        with stopped_at(arena, step) as recon:
            arena.machine.kill()
            recon.go_on()
            ran = recon.end()
        arena.power_cut()
    else:
        with stopped_at(arena, "T3") as recon:
            arena.power_cut()
            arena.wait_serving()
            recon.go_on()
            ran = recon.end()
        assert ran.code == 5, ran
    arena.wait_serving()
    return letter(arena, ran, before, new)


# -- C9, C10, C11: somebody else, and the clock ------------------------------------------------------------------------


def somebody_else_applies(arena: Arena, step: str, new: str) -> str:
    """Another recon moves the host while this one has not looked yet, or only plans: both end well."""
    words = ("plan",) if step == "T2" else ()
    with stopped_at(arena, step, *words) as recon:
        other = arena.apply()
        recon.go_on()
        ran = recon.end()
    now = arena.standing()
    assert (other.code, ran.code) == (0, 0), (other, ran)
    assert (now.serving, now.committed, now.state) == ((new,), new, "applied"), now
    return "I"


def the_claim_was_taken_away(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    with stopped_at(arena, step) as recon:
        bump_epoch(arena)
        recon.go_on()
        ran = recon.end()
    expected(ran, 5, "claim")
    return letter(arena, ran, before, new)


def the_clock_jumps(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    ran = told(arena, step, f"clock={3600 if step == 'T1' else -315_360_000}")
    found = letter(arena, ran, before, new)
    return "I" if found == "F" else found


_BY_FAULT: dict[str, tuple[Play, tuple[str, ...]]] = {
    "C1": (recon_is_killed, ("T0", "T1", "T2")),
    "C2": (the_connection_drops, ("T1", "T2")),
    "C3": (the_power_goes, ("T1", "T2", "T4")),
    "C9": (somebody_else_applies, ("T0", "T1", "T2")),
    "C10": (the_claim_was_taken_away, ("T3",)),
    "C11": (the_clock_jumps, ("T0", "T1", "T2")),
}

PLAYS: dict[str, Play] = {f"{step}-{fault}": play for fault, (play, steps) in _BY_FAULT.items() for step in steps}

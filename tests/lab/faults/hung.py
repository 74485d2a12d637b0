"""The cells in which a hook hangs: a real program, deaf to SIGTERM, with a child that has left its session.

Both covens get hooks and the host is brought there first, for the hooks of a coven that stops are those on record. The
program hangs only while the host says so: what is on record may be called again by the apply that goes on afterwards.

Must not: call a state right that was not looked at on the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.lab.faults.arena import OTHER, PLACE, Arena
from tests.lab.faults.before import text_in
from tests.lab.faults.cells import Play, letter
from tests.lab.faults.struck import expected

PROGRAM = "/usr/local/lib/recon-lab-hook"
HANGS = f"{PLACE}/hangs"
CALLED = f"{PLACE}/hooks"
_TEXT = f"""echo "$RECON_HOOK of $RECON_COVEN" >> {CALLED}
grep -qsx "$RECON_HOOK" {HANGS} || exit 0
echo "stuck in $RECON_HOOK"
trap "" TERM
setsid sleep 98765 > /dev/null 2>&1 < /dev/null &
while :; do sleep 1; done"""
_TIMEOUT_S = 2

HUNG = {"T7": "before_drain", "T8": "after_stop", "T12": "after_warm", "T14": "after_warm"}
"""The hook that hangs at a step. None is called after the commit: what hangs last is still to come to its end there."""


@contextlib.contextmanager
def hooked(arena: Arena, coven: str, event: str, on_timeout: str) -> Iterator[None]:
    """Let a coven have the hook, and one that is told of the way back."""
    hooks = "hooks:\n"
    for name, late in ((event, on_timeout), ("on_rollback", "continue")):
        hooks += f"  {name}: {{argv: [{PROGRAM}], timeout: {_TIMEOUT_S}s, on_timeout: {late}}}\n"
    file = arena.world.coven_file(coven)
    with text_in(file, file.read_text(encoding="utf-8").replace("\nservices:", f"\n{hooks}services:", 1)):
        yield


def a_hook_hangs(arena: Arena, step: str, new: str) -> str:
    """Before the commit it ends the transition, also when the hook of the way back hangs; after it nothing does."""
    event, old = HUNG[step], OTHER[new]
    late = "continue" if step == "T14" else "abort"
    arena.world.program(arena.host, PROGRAM, _TEXT)
    with hooked(arena, old, event, late), hooked(arena, new, event, late), forgotten(arena):
        arena.want(old)
        expected(arena.apply(), 0, "")
        before = arena.standing()
        arena.want(new)
        arena.put(HANGS, "".join(f"{name}\n" for name in (event, "on_rollback")))
        ran = arena.apply()
        nothing_is_left(arena)
        called = arena.machine.path(CALLED).read_text(encoding="utf-8").splitlines()
    found = letter(arena, ran, before, new)
    told = journal(arena)
    first = f"{event} of {old if step in {'T7', 'T8'} else new}"
    if step == "T14":
        assert called == [first], called
        assert f"hook {first} failed after" in told, told
        return found
    assert called == [first, f"on_rollback of {new}", f"on_rollback of {old}"], called
    expected(ran, ran.code, "REC7132")
    for name in called:
        assert f"hook {name} failed after" in told, told
    return found


@contextlib.contextmanager
def forgotten(arena: Arena) -> Iterator[None]:
    """Let no hook hang after the block."""
    arena.machine.run(["rm", "-f", CALLED])
    try:
        yield
    finally:
        arena.machine.run(["rm", "-f", HANGS, CALLED])


def nothing_is_left(arena: Arena) -> None:
    """Say that whatever the hook had started is gone when the transition has ended."""
    shown = arena.machine.run(["systemctl", "is-active", "recon-hook.scope"], check=False).stdout
    left = arena.machine.run(["pgrep", "-af", "sleep 98765"], check=False).stdout
    assert (shown.strip(), left) == (b"inactive", b""), (shown, left)


def journal(arena: Arena) -> str:
    """Return what the newest transaction wrote down."""
    txid = arena.standing().txid
    return str(arena.machine.path(f"/var/lib/recon/txn/{txid}/journal.jsonl").read_text(encoding="utf-8"))


PLAYS: dict[str, Play] = {f"{step}-C7": a_hook_hangs for step in HUNG}

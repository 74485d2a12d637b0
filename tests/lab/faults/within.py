"""The cells inside a transition that need more than one word of the failpoints: services, memory, generators, images.

Where the way back is to be open, the fault is taken away as soon as the way back begins.

Must not: call a state right that was not looked at on the host.
"""

from __future__ import annotations

from reconciler.lab.image import STORE_ON_HOST
from tests.lab.faults.arena import OTHER, PORTS, Arena
from tests.lab.faults.before import with_image
from tests.lab.faults.cells import Play, armed, letter
from tests.lab.faults.struck import (
    GENERATOR,
    NO_DRIVER,
    TAKEN,
    TAKEN_BESIDE,
    control,
    crashing_from_now,
    expected,
    member,
    reload,
    shell,
    struck_well,
    uncover,
    wait_step,
)
from tests.scenarios.world import Ran

BOOKS = "/var/lib/recon/txn"
FOR_A_MOMENT = {"hold": {**TAKEN_BESIDE["hold"], "seconds": 1.5}}
HOSTILE = "/opt/recon-lab/hostile-generator"


def calling(arena: Arena, step: str, new: str, argv: list[str]) -> Ran:
    """Apply with a command run on the host at a step; it must have run and done what it was to do."""
    armed(arena, step, new, "call", argv=argv)
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    struck_well(arena)
    return ran


def until(arena: Arena, step: str, new: str, argv: list[str], gone_by: str, heal: list[str] | None = None) -> Ran:
    """Apply with a command run at a step, and end its fault when the transaction comes to another step."""
    armed(arena, step, new, "call", argv=argv)
    with arena.applying() as process:
        arena.wait_fired()
        wait_step(arena, gone_by)
        arena.machine.heal()
        if heal:
            arena.machine.run(heal)
        out, _ = process.communicate(timeout=120)
    struck_well(arena)
    return Ran(process.returncode, out.decode(), "")


def none(found: str) -> str:
    """Say of a transition that went on to its end that the fault had no effect."""
    return "I" if found == "F" else found


# -- C5, C6: services crash, memory is not there -----------------------------------------------------------------------


def a_service_crashes(arena: Arena, step: str, new: str) -> str:
    """The old coven on its way out, or the new one after the commit: neither changes how the transition ends."""
    before = arena.standing()
    ran = calling(arena, step, new, crashing_from_now(new if step == "T14" else OTHER[new]))
    arena.machine.heal()
    arena.wait_serving()
    return none(letter(arena, ran, before, new))


def memory_is_not_there(arena: Arena, step: str, new: str) -> str:
    """Memory that nobody gives back: for a moment, until the way back begins, or for good."""
    before = arena.standing()
    if step in {"T5", "T6"}:
        return none(letter(arena, calling(arena, step, new, control(FOR_A_MOMENT)), before, new))
    if step == "T11":
        ran = until(arena, step, new, control(TAKEN), "rollback")
    elif step == "T12":
        # It has its memory by then: it crashes, and what it had does not come back.
        crash = f"""printf '{{"crash-after-ready": 0.1}}' > /run/lab-gpu/faults/{PORTS[new]}.json"""
        never = control({"faults": {"release_s": None}})
        ran = until(arena, step, new, shell(f"{crash}; exec {never[0]} {never[1]} {never[2]} '{never[3]}'"), "rollback")
    else:
        ran = calling(arena, step, new, control(TAKEN))
        expected(ran, 7, "MiB are needed")
    return letter(arena, ran, before, new)


# -- C8: the disk is full ----------------------------------------------------------------------------------------------


def the_disk_is_full(arena: Arena, step: str, new: str) -> str:
    """The order cannot be written: nothing is launched."""
    before = arena.standing()
    arena.machine.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=0700", "none", BOOKS])
    try:
        arena.machine.run(["dd", "if=/dev/zero", f"of={BOOKS}/.full", "bs=4096", "count=1"])
        ran = arena.apply()
    finally:
        uncover(arena, BOOKS)
    expected(ran, ran.code, "No space left")
    return letter(arena, ran, before, new)


# -- C12, C14, C15: what is observed is hostile, a generator fails, an image cannot be had -----------------------------


def what_is_observed_is_hostile(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    if step == "T5":
        arena.put(HOSTILE, "#!/bin/sh\nprintf '---recon-x.service---\\n\\033[2J\\377'\n")
        arena.machine.run(["chmod", "755", HOSTILE])
        ran = mounted_over_the_generator(arena, step, new, HOSTILE)
        expected(ran, 3, "REC7125")
        assert "\x1b" not in ran.out + ran.err
    elif step == "T7":
        ran = until(arena, step, new, control(NO_DRIVER), "stop")
        return none(letter(arena, ran, before, new))
    elif step == "T10":
        shadow = f"/etc/systemd/system/{member(new)}"
        try:
            ran = calling(arena, step, new, shell(f"printf '[Service]\\nExecStart=relative\\n' > {shadow}"))
        finally:
            arena.machine.run(["rm", shadow])
        reload(arena)
        expected(ran, 6, "REC7104")
    elif step == "T12":
        arena.machine.fault(PORTS[new], {"wrong-model": True, "fail-completions": True})
        ran = arena.apply()
        expected(ran, 6, "REC7107")
    else:
        ran = calling(arena, step, new, control(NO_DRIVER))
        expected(ran, 7, "not known")
    return letter(arena, ran, before, new)


def mounted_over_the_generator(arena: Arena, step: str, new: str, by: str) -> Ran:
    """Apply; at a step another program takes the generator's place."""
    try:
        ran = calling(arena, step, new, ["mount", "--bind", by, GENERATOR])
        if step == "T13":
            lost = arena.machine.run(["systemctl", "show", "--property=LoadState", "--value", member(OTHER[new])])
            assert lost.stdout == b"not-found\n", "nobody loaded with it"
    finally:
        uncover(arena, GENERATOR)
    reload(arena)
    return ran


def the_generator_fails(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    if step == "T11":
        # Loaded with somebody's drop-in: what starts is not what was generated.
        place = f"/etc/systemd/system/{member(new)}.d"
        text = "[Service]\\nExecStart=\\nExecStart=/bin/false\\n"
        try:
            script = f"mkdir -p {place}; printf '{text}' > {place}/x.conf; systemctl daemon-reload"
            ran = calling(arena, step, new, shell(script))
        finally:
            arena.machine.run(["rm", "-r", place])
        reload(arena)
        return letter(arena, ran, before, new)
    ran = mounted_over_the_generator(arena, step, new, "/bin/false")
    if step == "T5":
        expected(ran, 3, "REC7125")
    return letter(arena, ran, before, new)


def an_image_cannot_be_had(arena: Arena, step: str, new: str) -> str:
    """It can never be pulled; or it is there when it is asked for, and gone when it is to start."""
    before = arena.standing()
    if step == "T5":
        name = arena.lab.base.image.partition("@")[0]
        with with_image(arena, new, f"{name}@sha256:{'0' * 64}"):
            ran = arena.apply()
        expected(ran, 3, "REC7121")
        return letter(arena, ran, before, new)
    back = ["umount", STORE_ON_HOST]
    try:
        ran = until(arena, step, new, ["mount", "-t", "tmpfs", "none", STORE_ON_HOST], "rollback", back)
    except AssertionError:
        arena.machine.run(back, check=False)
        raise
    return letter(arena, ran, before, new)


_BY_FAULT: dict[str, tuple[Play, tuple[str, ...]]] = {
    "C5": (a_service_crashes, ("T5", "T6", "T7", "T14")),
    "C6": (memory_is_not_there, ("T5", "T6", "T11", "T12", "RB")),
    "C8": (the_disk_is_full, ("T6",)),
    "C12": (what_is_observed_is_hostile, ("T5", "T7", "T10", "T12", "RB")),
    "C14": (the_generator_fails, ("T5", "T11", "T13")),
    "C15": (an_image_cannot_be_had, ("T5", "T11")),
}

PLAYS: dict[str, Play] = {f"{step}-{fault}": play for fault, (play, steps) in _BY_FAULT.items() for step in steps}
OURS = {
    # The order is launched before the host is looked at again, and the claim sees that its coven crashes.
    "T6-C5": "X",
    # The commit is one symlink, and the reload comes after it: forward only.
    "T13-C14": "F",
}

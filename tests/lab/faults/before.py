"""The cells before a host is claimed: what the host shows, and files that fail, while recon reads, observes and plans.

Nothing may be changed by then, so "no effect" means either that `recon plan` said its say and the host stands as it
stood, or that the apply went on to its end as if nothing had been.

Must not: call a state right that was not looked at on the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from reconciler.lab.gpus import gpu_uuid
from tests.lab.faults.arena import OTHER, Arena
from tests.lab.faults.cells import Play, letter
from tests.lab.faults.struck import (
    GENERATOR,
    NO_DRIVER,
    TAKEN_BESIDE,
    UNITS,
    covered,
    crashing_from_now,
    expected,
    file_there,
    member,
    reload,
    stopped_at,
    told,
    uncover,
)
from tests.scenarios.world import Ran

LEASE = "/run/recon/lease.json"
ESCAPE = "\x1b"


def plan(arena: Arena) -> Ran:
    return arena.world.recon("plan", "--host", arena.host)


# -- C5, C6: services crash, memory is not there -----------------------------------------------------------------------


def the_old_coven_crashes(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    old = OTHER[new]
    if step == "T1":
        arena.machine.run(crashing_from_now(old))
        ran = plan(arena)
        expected(ran, 0, "not healthy")
    elif step == "T2":
        with stopped_at(arena, step, "plan") as recon:
            arena.machine.run(crashing_from_now(old))
            recon.go_on()
            ran = recon.end()
        assert ran.code == 0, ran
    else:
        with stopped_at(arena, "T3") as recon:
            arena.machine.run(crashing_from_now(old))
            recon.go_on()
            ran = recon.end()
        expected(ran, 5, member(old))
    arena.machine.heal()
    arena.wait_serving()
    found = letter(arena, ran, before, new) if step == "T4" else "I"
    assert arena.standing().txid == before.txid or step == "T4"
    return found


def memory_is_not_there(arena: Arena, step: str, new: str) -> str:
    """The driver does not give memory back; before a claim somebody else is on the GPU, which is seen under it."""
    before = arena.standing()
    if step == "T4":
        with somebody_on_the_gpu(arena) as taken, stopped_at(arena, "T3") as recon:
            arena.machine.gpu(taken)
            recon.go_on()
            ran = recon.end()
        expected(ran, 5, gpu_uuid(arena.lab.machines[0].record.index, 0))
        return letter(arena, ran, before, new)
    if step == "T1":
        arena.machine.gpu(TAKEN_BESIDE)
        ran = plan(arena)
    else:
        with stopped_at(arena, step, "plan") as recon:
            arena.machine.gpu(TAKEN_BESIDE)
            recon.go_on()
            ran = recon.end()
    assert ran.code == 0, ran
    assert arena.standing() == before
    return "I"


@contextlib.contextmanager
def somebody_on_the_gpu(arena: Arena) -> Iterator[dict[str, object]]:
    """Run a program of somebody else; give the request that makes it hold memory."""
    run = arena.machine.run
    run(["systemd-run", "--unit=stray", "sleep", "600"])
    try:
        pid = int(run(["systemctl", "show", "--property=MainPID", "--value", "stray.service"]).stdout)
        yield {"hold": {"gpu": 0, "bytes": 1 << 30, "pid": pid, "name": "/usr/bin/sleep"}}
    finally:
        run(["systemctl", "stop", "stray.service"])
        arena.machine.gpu({"reset": True})


# -- C8, C13, C15: files that cannot be read, written or believed ------------------------------------------------------


def a_file_fails(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    if step == "T0":
        ran = told(arena, step, "fail")
        expected(ran, 3, "REC1030")
    elif step == "T1":
        with read_only(arena, "/var/lib/recon"), read_only(arena, "/etc/recon"):
            ran = plan(arena)
        assert ran.code == 0, ran
    else:
        ran = arena.world.recon("plan", "--host", arena.host, "--out", "/dev/full")
        expected(ran, 1, "No space left")
    assert arena.standing() == before
    return "I" if step == "T1" else "X"


@contextlib.contextmanager
def read_only(arena: Arena, path: str) -> Iterator[None]:
    arena.machine.run(["mount", "--bind", path, path])
    try:
        arena.machine.run(["mount", "-o", "remount,bind,ro", path])
        assert arena.machine.run(["touch", f"{path}/x"], check=False).returncode != 0
        yield
    finally:
        uncover(arena, path)


def a_state_file_is_corrupt(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    if step == "T0":
        with text_in(arena.world.host_file(arena.host), "coven: reas\0\0\0\0"):
            ran = arena.apply()
        expected(ran, 3, "lab-1.yaml")
    elif step == "T1":
        with file_there(arena, f"/etc/recon/generations/{before.generation}/manifest.json", '{"sha256": "0", "bo'):
            ran = arena.apply()
        expected(ran, 3, "REC8008")
    elif step == "T2":
        with file_there(arena, LEASE, '{"epoch": 9'):
            ran = arena.apply()
        expected(ran, 4, "recon lock force-release")
    else:
        with stopped_at(arena, step) as recon, file_there(arena, LEASE, '{"epoch": 9'):
            recon.go_on()
            ran = recon.end()
        expected(ran, 4, "recon lock force-release")
    assert arena.standing() == before
    return "X"


@contextlib.contextmanager
def text_in(file: Path, text: str) -> Iterator[None]:
    """Let a file of the repository have another text."""
    before = file.read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")


def with_image(arena: Arena, coven: str, image: str) -> AbstractContextManager[None]:
    """Let a coven want another image."""
    file = arena.world.coven_file(coven)
    lines = file.read_text(encoding="utf-8").splitlines()
    return text_in(file, "".join(f"    image: {image}\n" if "image:" in line else line + "\n" for line in lines))


def an_image_cannot_be_had(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    image, said = {"T0": ("Not//an/image@", "REC2015"), "T2": ("localhost/model-server:latest", "REC2014")}[step]
    with with_image(arena, new, image):
        ran = arena.apply()
    expected(ran, 3, said)
    assert arena.standing() == before
    return "X"


# -- C12, C14: what is observed is hostile, a generator fails ----------------------------------------------------------


def what_is_observed_is_hostile(arena: Arena, step: str, new: str) -> str:
    before = arena.standing()
    if step == "T1":
        arena.machine.gpu(NO_DRIVER)
        ran = arena.apply()
        expected(ran, 3, "REC8003")
    elif step == "T2":
        text = f"# {ESCAPE}[2J\u202e\n[Container]\nImage=x\n"
        with file_there(arena, f"{UNITS}/recon-{ESCAPE}[31m.container", text):
            ran = arena.apply()
        expected(ran, 3, "REC8004")
        assert ESCAPE not in ran.out + ran.err
    else:
        with stopped_at(arena, "T3") as recon:
            arena.machine.gpu(NO_DRIVER)
            recon.go_on()
            ran = recon.end()
        expected(ran, 5, "gpus cannot be read now")
    arena.machine.heal()
    return letter(arena, ran, before, new)


def the_generator_fails(arena: Arena, step: str, new: str) -> str:
    """Somebody's broken unit beside ours changes nothing; a reload that loses our units is seen under the claim."""
    before = arena.standing()
    if step == "T1":
        with file_there(arena, f"{UNITS}/somebodys.container", "[Container\nImage=\n\\"):
            reload(arena)
            ran = arena.apply()
        reload(arena)
        found = letter(arena, ran, before, new)
        return "I" if found == "F" else found
    with covered(arena, GENERATOR), stopped_at(arena, "T3") as recon:
        reload(arena)
        recon.go_on()
        ran = recon.end()
    reload(arena)
    expected(ran, 5, member(OTHER[new]))
    return letter(arena, ran, before, new)


_BY_FAULT: dict[str, tuple[Play, tuple[str, ...]]] = {
    "C5": (the_old_coven_crashes, ("T1", "T2", "T4")),
    "C6": (memory_is_not_there, ("T1", "T2", "T4")),
    "C8": (a_file_fails, ("T0", "T1", "T2")),
    "C12": (what_is_observed_is_hostile, ("T1", "T2", "T4")),
    "C13": (a_state_file_is_corrupt, ("T0", "T1", "T2", "T3")),
    "C14": (the_generator_fails, ("T1", "T4")),
    "C15": (an_image_cannot_be_had, ("T0", "T2")),
}

PLAYS: dict[str, Play] = {f"{step}-{fault}": play for fault, (play, steps) in _BY_FAULT.items() for step in steps}

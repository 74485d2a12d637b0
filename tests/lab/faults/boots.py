"""The cells of the recovery after a boot: the power goes in the middle of a transition, and a fault lies on the disk.

What boots is the committed coven, by systemd alone. Where that one cannot run, nothing else runs in its place, and one
apply goes on once the cause is away.

Must not: call a state right that was not looked at on the host.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from reconciler.lab.tools import LabError
from tests.lab.faults.arena import OTHER, Arena, Standing, wait_for
from tests.lab.faults.cells import bump_epoch, letter
from tests.lab.faults.struck import GENERATOR, boot, expected, fall, member, reload, shell

GPU_CONFIG = "/etc/lab-gpu.json"
MOUNT = "var-lib-recon.mount"
AWAY = "/opt/recon-lab/generator.away"
"""Not beside it: whatever lies there is a generator."""


def serves_by_itself(arena: Arena, before: Standing) -> None:
    """Say that what was committed serves again, and nothing was committed since."""
    now = arena.wait_serving()
    assert (now.committed, now.generation) == (before.committed, before.generation), (before, now)


def nothing_serves(arena: Arena, before: Standing) -> None:
    """Say that the committed coven does not come up, and nothing else in its place, with nothing committed since."""
    broken = [member(before.committed or ""), "--property=NRestarts", "--property=LoadState", "--property=Result"]

    def gave_up() -> bool | None:
        shown = arena.machine.run(["systemctl", "show", *broken]).stdout.decode().split()
        return ("LoadState=not-found" in shown or "NRestarts=0" not in shown) or None

    wait_for(gave_up, "nothing went wrong at the boot")
    now = arena.standing()
    assert (now.serving, now.committed, now.generation) == ((), before.committed, before.generation), now


@contextlib.contextmanager
def gpu_config(arena: Arena, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Let the GPUs of the host be others from the next start of their daemon on."""
    file = arena.machine.path(GPU_CONFIG)
    first = file.read_text(encoding="utf-8")
    config = json.loads(first)
    change(config)
    arena.put(GPU_CONFIG, json.dumps(config))
    try:
        yield
    finally:
        arena.put(GPU_CONFIG, first)
        arena.machine.run(["systemctl", "restart", "lab-gpud.service"])


def the_power_goes_again(arena: Arena, step: str, new: str) -> str:
    """Cut it a second time while the committed coven is on its way up."""
    before = fall(arena, new)
    arena.machine.kill()
    arena.machine.start()

    def on_its_way() -> bool | None:
        with contextlib.suppress(LabError, OSError):
            group = arena.machine.path(f"/sys/fs/cgroup/system.slice/{member(OTHER[new])}")
            return group.exists() or None
        return None

    wait_for(on_its_way, "the committed coven never began to start")
    assert not arena.serves(OTHER[new])
    arena.power_cut()
    serves_by_itself(arena, before)
    return "P"


def the_executor_is_killed(arena: Arena, step: str, new: str) -> str:
    """Kill the one that brings the interrupted transaction to an end: the host needs none to serve."""
    before = fall(arena, new)
    interrupted = arena.standing().txid
    arena.power_cut()
    serves_by_itself(arena, before)
    arena.arm(rf"^write /var/lib/recon/txn/{interrupted}/outcome.json", "kill")
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    assert letter(arena, ran, before, new) == "A", ran
    return "P"


def the_service_crashes(arena: Arena, step: str, new: str) -> str:
    before = fall(arena, new)
    model = f"/srv/models/{OTHER[new]}"
    arena.machine.run(["mv", model, f"{model}.away"])
    try:
        boot(arena)
        nothing_serves(arena, before)
        expected(arena.world.recon("status", "--host", arena.host), 0, "auto-restart")
    finally:
        arena.machine.run(["mv", f"{model}.away", model])
    return "H"


def memory_is_not_there(arena: Arena, step: str, new: str) -> str:
    before = fall(arena, new)

    def small(config: dict[str, Any]) -> None:
        config["gpus"][0]["reserved"] = config["gpus"][0]["total"] - (1 << 30)

    with gpu_config(arena, small):
        boot(arena)
        nothing_serves(arena, before)
    return "H"


def the_disk_is_read_only(arena: Arena, step: str, new: str) -> str:
    """Recon's own books cannot be written: the coven serves, and an apply is refused."""
    before = fall(arena, new)
    place = f"/etc/systemd/system/{MOUNT}"
    unit = "[Unit]\nDefaultDependencies=no\nBefore=local-fs.target\n"
    mount = "[Mount]\nWhat=/var/lib/recon\nWhere=/var/lib/recon\nType=none\nOptions=bind,ro\n"
    wants = "/etc/systemd/system/local-fs.target.wants"
    arena.put(place, unit + mount)
    arena.machine.run(["mkdir", "-p", wants])
    arena.machine.run(["ln", "-s", place, f"{wants}/{MOUNT}"])
    try:
        boot(arena)
        assert arena.machine.run(["touch", "/var/lib/recon/x"], check=False).returncode != 0, "it can be written"
        serves_by_itself(arena, before)
        expected(arena.apply(), 3, "Read-only file system")
        serves_by_itself(arena, before)
    finally:
        arena.machine.run(["rm", "-f", place, f"{wants}/{MOUNT}"])
        arena.machine.run(["umount", "/var/lib/recon"], check=False)
        reload(arena)
    return "P"


def somebody_starts_the_other_coven(arena: Arena, step: str, new: str) -> str:
    """By hand, as soon as the host is up: its gate says no."""
    before = fall(arena, new)
    arena.power_cut()
    assert arena.machine.run(["systemctl", "start", member(new)], check=False).returncode != 0, "it started"
    serves_by_itself(arena, before)
    return "X"


def the_claim_is_taken_away(arena: Arena, step: str, new: str) -> str:
    before = fall(arena, new)
    arena.power_cut()
    bump_epoch(arena)
    serves_by_itself(arena, before)
    return "I"


def the_clock_jumps(arena: Arena, step: str, new: str) -> str:
    """Ten years back, while the interrupted transaction is brought to an end."""
    before = fall(arena, new)
    interrupted = arena.standing().txid
    arena.power_cut()
    serves_by_itself(arena, before)
    arena.arm(rf"^write /var/lib/recon/txn/{interrupted}/outcome.json", "clock", seconds=-315_360_000)
    ran = arena.apply()
    assert arena.fired(), "the fault never struck"
    found = letter(arena, ran, before, new)
    return "I" if found == "F" else found


def the_driver_says_nothing(arena: Arena, step: str, new: str) -> str:
    """What boots needs no figure of ours; an apply is refused until the driver answers."""
    before = fall(arena, new)
    with gpu_config(arena, lambda config: config["system"].update({"fail.nvmlInit": "!18"})):
        boot(arena)
        serves_by_itself(arena, before)
        expected(arena.apply(), 3, "REC8003")
        serves_by_itself(arena, before)
    # Its GPUs were taken away from it with their daemon, and it starts again.
    arena.wait_serving()
    return "P"


def every_state_file_is_corrupt(arena: Arena, step: str, new: str) -> str:
    """What boots is a symlink and unit files: nothing of recon's books is needed for it."""
    before = fall(arena, new)
    arena.machine.run(shell("find /var/lib/recon -type f -exec sh -c 'printf rubbish > \"$1\"' _ {} ';'"))
    arena.machine.run(["sync"])
    boot(arena)
    assert arena.machine.path("/var/lib/recon/epoch").read_text() == "rubbish"
    serves_by_itself(arena, before)
    return "P"


def the_generator_is_gone(arena: Arena, step: str, new: str) -> str:
    """No unit of ours is there, so nothing starts; the next apply is refused until there is a generator."""
    before = fall(arena, new)
    arena.machine.run(["mv", GENERATOR, AWAY])
    try:
        boot(arena)
        nothing_serves(arena, before)
        refused = arena.apply()
        assert refused.code == 3, refused
        nothing_serves(arena, before)
    finally:
        arena.machine.run(["mv", AWAY, GENERATOR])
        reload(arena)
    return "H"


PLAYS = {
    "RV-C3": the_power_goes_again,
    "RV-C4": the_executor_is_killed,
    "RV-C5": the_service_crashes,
    "RV-C6": memory_is_not_there,
    "RV-C8": the_disk_is_read_only,
    "RV-C9": somebody_starts_the_other_coven,
    "RV-C10": the_claim_is_taken_away,
    "RV-C11": the_clock_jumps,
    "RV-C12": the_driver_says_nothing,
    "RV-C13": every_state_file_is_corrupt,
    "RV-C14": the_generator_is_gone,
}
OURS = {
    # What boots is units and a symlink, and asks no figure; nothing new starts until the driver answers.
    "RV-C12": "P",
}

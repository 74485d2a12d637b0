"""Random instants: an executor killed, stopped, or a host without power, anywhere in a switch; and rollbacks in a row.

    python -m tests.lab.faults.kills --kills 20 --rollbacks 10 --seed 1

Measures how long an undisturbed switch takes, strikes at uniformly random instants up to 1.1 times that, and looks
whether the host is as it was before or as it was to be, never in between. Prints counts; ends with 1 when one was not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from reconciler.lab import labs
from reconciler.lab.tools import LabError
from tests.lab.faults.arena import OTHER, PORTS, Arena, Watch, furnished

KINDS = ("kill", "kill", "kill", "power", "power", "stop")
"""What strikes: five of six without a warning."""
LONGER = 1.1


def say(text: str) -> None:
    """Tell whoever waits, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def strike(arena: Arena, kind: str) -> None:
    """Strike the host once."""
    if kind == "power":
        arena.power_cut()
    elif kind == "kill":
        arena.machine.run(["systemctl", "kill", "--signal=SIGKILL", "recon-executor.service"], check=False)
    else:
        arena.machine.run(["systemctl", "stop", "recon-executor.service"], check=False)


def one_kill(arena: Arena, draw: random.Random, took_s: float) -> str:
    """Switch the host and strike somewhere; return how it ended, or raise what was wrong."""
    old = arena.begin()
    new = OTHER[old]
    before = arena.standing()
    arena.want(new)
    kind, after_s = draw.choice(KINDS), draw.uniform(0, took_s * LONGER)
    with Watch(arena) as watch, arena.applying() as process:
        time.sleep(after_s)
        strike(arena, kind)
        if kind == "power":
            process.kill()
        process.wait(timeout=180)
    try:
        now = arena.wait_serving()
    except AssertionError as error:
        raise AssertionError(f"{kind} after {after_s:.2f} s on the way from {old} to {new}: {error}") from error
    assert watch.seen == [], watch.seen
    assert now.committed in {old, new}, now
    assert (now.generation == before.generation) == (now.committed == old), (before, now)
    arena.settle()
    return f"{kind}: {'old' if now.committed == old else 'new'}"


def one_rollback(arena: Arena) -> str:
    """Move the host to a coven that never comes up: exit 6 and the old one serving, every time."""
    old = arena.begin()
    new = OTHER[old]
    before = arena.standing()
    arena.want(new)
    arena.machine.fault(PORTS[new], {"crash-at-start": True})
    ran = arena.apply()
    now = arena.standing()
    arena.machine.heal()
    assert ran.code == 6, (ran.code, ran.out)
    assert (now.serving, now.generation, now.state) == ((old,), before.generation, "rolled_back"), now
    arena.want(old)
    arena.settle()
    return "rolled back"


def measured(arena: Arena) -> float:
    """Return how long a switch takes, recon's own start included."""
    arena.want(OTHER[arena.begin()])
    began = time.monotonic()
    arena.settle()
    return time.monotonic() - began


def main() -> int:
    """Play the kills and the rollbacks asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--rollbacks", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, help="note the counts in this file")
    chosen = parser.parse_args()
    draw, ends, wrong = random.Random(chosen.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory(prefix="recon-kills-") as scratch, labs.running(Path(scratch), hosts=1) as lab:
        arena = furnished(lab)
        took_s = measured(arena)
        deeds = ["kill"] * chosen.kills + ["rollback"] * chosen.rollbacks
        say(f"a switch takes {took_s:.1f} s; {chosen.kills} strikes and {chosen.rollbacks} rollbacks follow")
        for number, deed in enumerate(deeds, 1):
            try:
                ends[one_kill(arena, draw, took_s) if deed == "kill" else one_rollback(arena)] += 1
            except (AssertionError, LabError) as error:
                wrong += 1
                say(f"{deed} {number} of seed {chosen.seed}: {error}")
            if number % 10 == 0 or number == len(deeds):
                said = ", ".join(f"{end} {count}" for end, count in sorted(ends.items()))
                say(f"{number} of {len(deeds)}, {wrong} illegal states: {said}")
    if chosen.record:
        note(chosen.record, chosen, dict(sorted(ends.items())), wrong)
    return 1 if wrong else 0


def note(file: Path, chosen: argparse.Namespace, ends: dict[str, int], wrong: int) -> None:
    """Put the counts into the record of the last full run."""
    document = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    document["kills"] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "kills": chosen.kills,
        "rollbacks": chosen.rollbacks,
        "seed": chosen.seed,
        "ends": ends,
        "illegal": wrong,
    }
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""Before every change the claim is proven, whoever makes it and wherever."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from reconciler.agent import executor, fence, places
from reconciler.agent.fence import Fenced, only_looks
from reconciler.agent.lease import Lease, LeaseError
from reconciler.agent.machine import Machine
from reconciler.agent.record import write_record
from reconciler.model.outcome import Outcome
from reconciler.sim.machine import SimMachine
from tests.agent.bench import Bench


def test_nothing_of_the_machine_goes_past_the_fence() -> None:
    calls = {name for name, _ in inspect.getmembers(Machine, inspect.isfunction) if not name.startswith("_")}

    assert calls <= set(vars(Fenced))


CHANGES: dict[str, Any] = {
    "mkdir": lambda machine: machine.mkdir("/etc/recon/generations/9"),
    "write": lambda machine: machine.write("/etc/systemd/system/recon-a.target", b""),
    "append": lambda machine: machine.append("/etc/recon/x", b""),
    "symlink": lambda machine: machine.symlink("/etc/recon/generations/9", places.COMMITTED),
    "remove": lambda machine: machine.remove(places.TRIAL),
    "rewrite": lambda machine: machine.rewrite("/etc/hostname", lambda _data: b"x"),
    "unlink": lambda machine: machine.open_directory("/etc").unlink(b"hostname"),
    "remove_tree": lambda machine: machine.remove_tree("/etc/recon/generations/9"),
    "start": lambda machine: machine.run(["systemctl", "start", "--no-block", "recon-a.target"], 1.0),
    "reload": lambda machine: machine.run(["systemctl", "daemon-reload"], 1.0),
    "pull": lambda machine: machine.run(["podman", "pull", "--quiet", "a"], 1.0),
    "unknown": lambda machine: machine.run(["nft", "list", "ruleset"], 1.0),
    "post": lambda machine: machine.http("POST", "http://127.0.0.1:1/pause", 1.0),
}


@pytest.fixture
def machine() -> SimMachine:
    machine = SimMachine.new("h-1")
    machine.mkdir(places.RUN)
    machine.mkdir(places.STATE)
    return machine


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_is_made_without_a_claim_or_by_a_claim_that_is_over(machine: SimMachine, change: str) -> None:
    fenced = Fenced(machine)
    seen: list[str] = []
    machine.hook = lambda when, what: seen.append(what)
    with pytest.raises(LeaseError, match="the host was never claimed"):
        CHANGES[change](fenced)

    fenced.hold(Lease(machine, {"epoch": 4, "renewed": 0.0, "ttl_s": 60.0}))
    write_record(machine, places.EPOCH, {"epoch": 5})
    seen.clear()
    with pytest.raises(LeaseError, match="the claim of epoch 4 is over: the host is at epoch 5"):
        CHANGES[change](fenced)

    assert seen == []


def test_each_directory_on_the_way_is_made_with_a_proof_of_its_own(machine: SimMachine) -> None:
    write_record(machine, places.EPOCH, {"epoch": 4})
    fenced = Fenced(machine)
    fenced.hold(Lease(machine, {"epoch": 4, "renewed": 0.0, "ttl_s": 60.0}))
    seen: list[str] = []

    def hook(when: str, what: str) -> None:
        seen.append(f"{when} {what}")
        if seen[-1] == "after mkdir /etc/recon":
            machine.hook = None
            write_record(machine, places.EPOCH, {"epoch": 5})
            machine.hook = hook

    machine.hook = hook
    with pytest.raises(LeaseError, match="the claim of epoch 4 is over"):
        fenced.mkdir("/etc/recon/generations/9")
    assert seen == ["before mkdir /etc/recon", "after mkdir /etc/recon"]


def test_a_safety_deed_may_finish_and_recons_own_books_are_written_without_a_claim(machine: SimMachine) -> None:
    fenced = Fenced(machine)
    fenced.append(places.STATE + "/txn-note", b"x")
    with fenced.lowered():
        fenced.mkdir("/etc/recon/generations/9")

    assert machine.stat("/etc/recon/generations/9") is not None
    assert not fenced.is_lowered


@pytest.mark.parametrize(
    ("argv", "looks"),
    [
        (["systemctl", "show", "--property=Id", "--", "a"], True),
        (["systemctl", "stop", "a"], False),
        (["podman", "image", "exists", "a"], True),
        (["podman", "image", "rm", "a"], False),
        (["podman", "--version"], True),
        (["/usr/lib/systemd/system-generators/podman-system-generator", "--dryrun"], True),
        (["systemd-run", "--unit=a"], False),
        (["rm", "-rf", "/"], False),
    ],
)
def test_a_command_is_a_change_unless_it_is_known_to_look(argv: list[str], looks: bool) -> None:
    assert only_looks(argv) is looks


def test_a_claim_that_is_taken_before_any_change_ends_with_one_whole_coven_and_no_deed_on_the_way_there() -> None:
    """Whatever the stale holder does next is refused; only the way back is walked."""
    ready = Bench()
    assert ready.run("reasoning").state == "applied"
    txid = ready.submit(ready.intent("vision"))
    seen: list[str] = []
    whole = ready.copy()
    whole.machine.hook = lambda when, what: seen.append(what) if when == "before" else None
    executor.execute(whole.machine, txid)
    deeds = [number for number, what in enumerate(seen) if not what.split(" ", 1)[1].startswith(fence._BOOKS)]

    ends: dict[str, int] = {}
    for number in deeds:
        bench, count = ready.copy(), [0]

        def take(when: str, what: str, *, bench: Bench = bench, count: list[int] = count, at: int = number) -> None:
            if when == "before":
                count[0] += 1
                if count[0] == at:
                    bench.machine.hook = None
                    write_record(bench.machine, places.EPOCH, {"epoch": 99})

        bench.machine.hook = take
        outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
        where = f"taken before {seen[number]}"
        committed = outcome.committed == 2
        assert outcome.state == "applied" if committed else outcome.code == "REC7113", (where, outcome)
        assert bench.serving() == (
            ["recon-vision-llama"] if committed else ["recon-reasoning-rerank", "recon-reasoning-vllm"]
        ), where
        ends[outcome.state] = ends.get(outcome.state, 0) + 1

    assert sorted(ends) == ["applied", "refused", "rolled_back"]


def test_a_claim_that_is_lost_while_the_lease_is_renewed_changes_nothing_more(machine: SimMachine) -> None:
    write_record(machine, places.EPOCH, {"epoch": 4})
    fenced = Fenced(machine)
    fenced.hold(Lease(machine, {"epoch": 4, "renewed": -60.0, "ttl_s": 60.0}))
    seen: list[str] = []

    def hook(when: str, what: str) -> None:
        seen.append(f"{when} {what}")
        if seen == [f"before write {places.LEASE}"]:
            machine.hook = None
            write_record(machine, places.EPOCH, {"epoch": 5})
            machine.hook = hook

    machine.hook = hook

    with pytest.raises(LeaseError, match="the claim of epoch 4 is over: the host is at epoch 5"):
        fenced.run(["systemctl", "daemon-reload"], 1.0)

    assert seen == [f"before write {places.LEASE}", f"after write {places.LEASE}"]


@pytest.mark.parametrize("name", [*CHANGES])
def test_a_deed_that_is_no_safety_deed_is_proven_inside_one_too(machine: SimMachine, name: str) -> None:
    fenced = Fenced(machine)
    fenced.hold(a_lost_lease(machine))

    with fenced.lowered(), fenced.raised(), pytest.raises(LeaseError):
        CHANGES[name](fenced)
    with fenced.lowered(), fenced.raised():
        pass

    assert not fenced.is_lowered


def a_lost_lease(machine: SimMachine) -> Lease:
    """Return a claim that somebody has taken over since."""
    lease = Lease(machine, {"epoch": 1, "owner": "ann", "txid": "t", "boot_id": "b", "renewed": 0.0, "ttl_s": 60.0})
    write_record(machine, places.EPOCH, {"epoch": 2})
    return lease

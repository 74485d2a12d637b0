"""The claim: epochs only grow, whatever is lost, and a holder shows that it lives without asking a wall clock."""

from __future__ import annotations

import pytest

from reconciler.agent import claims, history, lease, places
from reconciler.agent.lease import LeaseError
from reconciler.agent.record import read_record, seal, write_record
from reconciler.model.observed import Lease
from reconciler.sim.machine import SimMachine


@pytest.fixture
def machine() -> SimMachine:
    machine = SimMachine.new("h-1")
    machine.mkdir(places.RUN)
    return machine


def take(machine: SimMachine, txid: str) -> lease.Lease:
    return lease.take(machine, owner="ann", txid=txid, boot_id="b")


def test_a_claim_has_the_next_epoch_and_says_who_has_it(machine: SimMachine) -> None:
    since = round(machine.boottime(), 3)
    taken = take(machine, "t1")
    machine.clock.advance(7.0)
    taken.enter("drain")

    assert taken.epoch == 1
    assert Lease.model_validate(claims.lease(machine)) == Lease(
        epoch=1, owner="ann", txid="t1", boot_id="b", step="drain", since=since, renewed=since + 7.0, ttl_s=60.0
    )


def test_an_older_claim_is_over_when_a_newer_one_is_taken(machine: SimMachine) -> None:
    old = take(machine, "t1")
    new = take(machine, "t2")

    new.check()
    with pytest.raises(LeaseError, match="the claim of epoch 1 is over: the host is at epoch 2"):
        old.check()


def test_a_holder_whose_claim_is_over_does_not_write_over_the_newer_one(machine: SimMachine) -> None:
    old = take(machine, "t1")
    take(machine, "t2")
    machine.clock.advance(100.0)
    old.enter("warm")
    old.renew()

    assert read_record(machine, places.LEASE)["txid"] == "t2"


def test_epochs_go_on_over_a_reboot(machine: SimMachine) -> None:
    take(machine, "t1")
    machine.reboot()
    machine.mkdir(places.RUN)

    assert take(machine, "t2").epoch == 2


@pytest.mark.parametrize("data", [b"", b"x\n", b"7\n", b"\x00", seal({"epoch": 7})[:-1], seal({"epoch": 7})[:-9]])
def test_an_epoch_that_does_not_verify_is_put_aside_and_the_next_is_above_all_others(
    machine: SimMachine, data: bytes
) -> None:
    take(machine, "t1")
    holder = take(machine, "t2")
    machine.write(places.EPOCH, data)

    with pytest.raises(LeaseError, match="which claim is the newest cannot be told"):
        holder.check()
    assert take(machine, "t3").epoch == 3
    assert machine.read(places.EPOCH + ".corrupt-1") == data


def test_an_epoch_that_was_lost_or_restored_is_found_in_what_tells_of_it(machine: SimMachine) -> None:
    """One source after the other is all that is left."""
    manifest = f"{places.generation(4)}/manifest.json"
    machine.mkdir(places.STATE)
    write_record(machine, places.EPOCH, {"epoch": 3})
    machine.mkdir(places.generation(4))
    write_record(machine, manifest, {"epoch": 8})
    assert take(machine, "t1").epoch == 9

    machine.remove(places.EPOCH)
    assert take(machine, "t2").epoch == 10

    machine.remove(places.EPOCH)
    machine.remove(places.LEASE)
    history.append(machine, {"txid": "t2", "epoch": 10})
    assert take(machine, "t3").epoch == 11


def test_a_lease_is_renewed_every_quarter_of_its_time_and_ahead_of_a_long_call(machine: SimMachine) -> None:
    taken = take(machine, "t1")
    began = round(machine.boottime(), 3)
    seen = []
    for wait, busy in ((10.0, 0.0), (5.0, 0.0), (1.0, 20.0), (1.0, 3600.0), (3000.0, 0.0)):
        machine.clock.advance(wait)
        taken.renew(busy)
        found = read_record(machine, places.LEASE)
        seen.append((round(found["renewed"] - began, 3), found["ttl_s"]))

    assert seen == [(0.0, 60.0), (15.0, 60.0), (15.0, 60.0), (17.0, 3660.0), (3017.0, 60.0)]


def test_no_wall_clock_makes_a_claim_older_or_younger(machine: SimMachine) -> None:
    found = []
    for jump in (0.0, 3600.0, -315_360_000.0):
        other = SimMachine.new("h-1")
        other.mkdir(places.RUN)
        taken = take(other, "t1")
        other.state.epoch += jump
        other.clock.advance(20.0)
        taken.renew()
        found.append(other.read(places.LEASE))

    assert found[0] == found[1] == found[2]

from __future__ import annotations

import pytest

from reconciler.agent import claims, lease, places
from reconciler.agent.lease import LeaseError
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
    taken = take(machine, "t1")
    taken.enter("drain")

    assert taken.epoch == 1
    assert Lease.model_validate(claims.lease(machine)) == Lease(
        epoch=1, owner="ann", txid="t1", boot_id="b", step="drain", since=round(machine.boottime(), 3)
    )


def test_an_older_claim_is_over_when_a_newer_one_is_taken(machine: SimMachine) -> None:
    old = take(machine, "t1")
    new = take(machine, "t2")

    new.check()
    with pytest.raises(LeaseError, match="the claim of epoch 1 is over: the host is at epoch 2"):
        old.check()


def test_epochs_go_on_over_a_reboot(machine: SimMachine) -> None:
    take(machine, "t1")
    machine.reboot()
    machine.mkdir(places.RUN)

    assert take(machine, "t2").epoch == 2


@pytest.mark.parametrize("text", [b"", b"x\n", b"-1\n", b"1.5\n", b"\x00"])
def test_an_epoch_that_cannot_be_read_is_nobodys_to_guess(machine: SimMachine, text: bytes) -> None:
    machine.mkdir(places.STATE)
    machine.write(places.EPOCH, text)

    with pytest.raises(LeaseError, match="does not hold a number"):
        take(machine, "t1")

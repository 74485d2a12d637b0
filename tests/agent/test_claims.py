"""Lease, hold, executor: what does not verify is never "nobody"."""

from __future__ import annotations

import pytest

from reconciler.agent import claims, down_mark, fact, places
from reconciler.agent.record import RecordError, seal
from tests.agent.fakehost import Content, FakeHost

LEASE: dict[str, object] = {
    "epoch": 3,
    "owner": "ada@laptop",
    "txid": "t2",
    "boot_id": "b",
    "step": "drain",
    "since": 12.5,
    "renewed": 20.0,
    "ttl_s": 60.0,
}
HOLD = {"owner": "ada", "reason": "benchmark until noon", "since": 1.0, "until": None}


def test_a_lease_is_read_whole_and_none_is_none() -> None:
    assert claims.lease(FakeHost()) is None
    assert claims.lease(FakeHost({"/run/recon/lease.json": seal(LEASE)})) == LEASE


def test_what_a_holder_does_without_a_transaction_is_part_of_its_claim() -> None:
    told = {**LEASE, "doing": "restarting a.service"}

    assert claims.lease(FakeHost({"/run/recon/lease.json": seal(told)})) == told


@pytest.mark.parametrize(
    "body",
    [
        {**LEASE, "epoch": "3"},
        {**LEASE, "epoch": True},
        {"owner": "ada"},
        {**LEASE, "since": float("nan")},
        {**LEASE, "ttl_s": float("inf")},
        {**LEASE, "renewed": 10**400},
    ],
)
def test_a_lease_without_its_parts_is_an_error(body: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        claims.lease(FakeHost({"/run/recon/lease.json": seal(body)}))


def test_a_hold_may_be_written_by_hand_or_sealed() -> None:
    by_hand = b'{"owner": "ada", "reason": "benchmark until noon", "since": 1, "until": null}'

    assert claims.hold(FakeHost()) is None
    assert claims.hold(FakeHost({"/etc/recon/hold.json": by_hand})) == HOLD
    assert claims.hold(FakeHost({"/etc/recon/hold.json": seal(HOLD)})) == HOLD


@pytest.mark.parametrize(("until", "holds"), [(None, True), (99.0, False), (100.0, False), (100.5, True)])
def test_a_hold_ends_by_the_clock_on_the_wall_when_its_owner_said_when(until: float | None, holds: bool) -> None:
    host = FakeHost({"/etc/recon/hold.json": seal({**HOLD, "until": until})})
    host.wall = lambda: 100.0  # type: ignore[method-assign] # the one clock people set

    assert claims.hold(host) == ({**HOLD, "until": until} if holds else None)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"hold please", b'{"owner": 1}', seal(HOLD).replace(b"noon", b"dusk"), b'{"owner": "a"}']
)
def test_a_hold_that_is_not_understood_is_an_error_and_so_never_no_hold(data: bytes) -> None:
    with pytest.raises(RecordError, match=r"^/etc/recon/hold\.json is there and not understood"):
        claims.hold(FakeHost({"/etc/recon/hold.json": data}))


@pytest.mark.parametrize("key", ["since", "until"])
@pytest.mark.parametrize("time", ["false", "true", '"1"', "[]", "NaN", "1e999", "-1e999", "1e15", "1" + "0" * 400])
def test_a_hold_of_a_time_that_is_none_counts_as_a_hold(key: str, time: str) -> None:
    text = f'{{"owner": "ada", "reason": "benchmark", "since": 1, "{key}": {time}}}'

    with pytest.raises(RecordError, match=rf"is there and not understood: it has no proper {key}"):
        claims.hold(FakeHost({"/etc/recon/hold.json": text.encode()}))


def test_a_hold_that_is_nested_too_deeply_counts_as_a_hold() -> None:
    with pytest.raises(RecordError, match="is there and not understood"):
        claims.hold(FakeHost({"/etc/recon/hold.json": b"[" * 200_000}))


def test_a_mark_of_a_time_that_is_none_says_that_it_is_down_and_not_who_said_so() -> None:
    mark = seal({"owner": "ada", "reason": "benchmark", "since": float("nan")})

    found = down_mark.of(FakeHost({places.DOWN_COVEN: mark}), down_mark.COVEN)

    assert found is not None
    assert (found["owner"], found["since"]) == ("unknown", 0.0)


TXN = "/var/lib/recon/txn"
OUTCOME = {"state": "applied"}


@pytest.mark.parametrize(
    ("unit", "lease", "active", "txid"),
    [
        ("active", fact.value(LEASE), True, "t2"),
        ("deactivating", fact.value(LEASE), True, "t2"),
        ("activating", fact.value(None), True, "t1"),
        ("inactive", fact.value(None), False, "t1"),
        ("inactive", fact.value(LEASE), False, "t1"),
        (None, fact.value(LEASE), True, "t2"),
        (None, fact.value(None), False, "t1"),
        (None, fact.unknown("torn"), True, "t1"),
    ],
)
def test_the_executor_runs_when_its_unit_does_and_the_lease_is_the_second_best_sign(
    unit: str | None, lease: fact.Fact, active: bool, txid: str
) -> None:
    host = FakeHost({f"{TXN}/t1/outcome.json": seal(OUTCOME)})

    assert claims.executor(host, unit, lease) == {
        "active": active,
        "txid": txid,
        "last": {"value": OUTCOME},
        "target": None,
    }


def test_a_host_is_enrolled_when_a_complete_agent_lies_there() -> None:
    half: dict[str, Content] = {"/var/lib/recon/agent/aa/recon_agent/real.py": "x"}

    assert not claims.is_enrolled(FakeHost())
    assert not claims.is_enrolled(FakeHost(half))
    assert not claims.is_enrolled(FakeHost({**half, "/var/lib/recon/agent/bb/.ok": ""}))
    assert not claims.is_enrolled(FakeHost({**half, "/var/lib/recon/agent/bb/.ok": "bc\n"}))
    assert claims.is_enrolled(FakeHost({**half, "/var/lib/recon/agent/bb/.ok": "bb\n"}))

"""A claim is taken away by who names it, after its executor has ended, and never twice."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import executor, history, lease, observe, places
from reconciler.agent.dispatch import handle
from reconciler.agent.record import read_record
from reconciler.agent.target import target_of
from reconciler.agent.wire import RequestError
from reconciler.model.digest import target_digest
from reconciler.model.observed import HostState
from tests.agent.bench import CONTEXT, Bench
from tests.agent.test_launch import apply, end_unit

REASONING = ["recon-reasoning-rerank", "recon-reasoning-vllm"]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    return bench


def ask(bench: Bench, epoch: int, name: str = "release-1", reason: str = "it hangs") -> dict[str, Any]:
    args = {"epoch": epoch, "reason": reason, "owner": "ann@laptop", "host": "h-1", "id": name}
    return handle(bench.machine, "release", args, CONTEXT)


def code_of(bench: Bench, *args: Any, **over: Any) -> str:
    with pytest.raises(RequestError) as caught:
        ask(bench, *args, **over)
    return caught.value.code


def test_the_epoch_that_was_shown_must_still_be_the_newest(bench: Bench) -> None:
    before = bench.machine.state.model_dump_json()

    assert code_of(bench, 7) == "REC7152"
    assert code_of(bench, 0) == "REC7152"
    assert bench.machine.state.model_dump_json() == before


@pytest.mark.parametrize("reason", ["", "  \n", None, 3])
def test_a_reason_is_wanted(bench: Bench, reason: Any) -> None:
    assert code_of(bench, 1, reason=reason) == "REC7154"


def test_a_claim_that_nobody_executes_is_gone_at_once_and_it_is_written_who_did_it_and_why(bench: Bench) -> None:
    bench.machine.write(places.LEASE, b"torn")

    assert ask(bench, 1) == {"released": True, "epoch": 2, "stopped": None}

    line = history.recent(bench.machine)[-1]
    line.pop("started_at")
    assert line == {
        "txid": "release-1",
        "host": "h-1",
        "state": "released",
        "owner": "ann@laptop",
        "reason": "it hangs",
        "epoch": 2,
        "released_epoch": 1,
        "taken_from": None,
        "stopped": None,
    }
    assert bench.machine.read(places.LEASE + ".corrupt-1") == b"torn"
    assert bench.machine.stat(places.LEASE) is None
    assert bench.run("vision").state == "applied"


def test_the_same_request_again_is_the_same_deed(bench: Bench) -> None:
    assert ask(bench, 1) == ask(bench, 1) == {"released": True, "epoch": 2, "stopped": None}
    assert code_of(bench, 1, name="release-2") == "REC7152"


def test_an_executor_that_runs_is_ended_first_and_the_host_is_whole_before_the_claim_is_gone(bench: Bench) -> None:
    intent = bench.intent("vision")
    apply(bench, intent)
    held = lease.take(bench.machine, owner="ci@example.net", txid=intent["txid"], boot_id="b")

    begun = bench.doing(lambda: ask(bench, held.epoch))
    waiting = ask(bench, held.epoch)

    assert [what for what in begun if what.startswith("run")] == [
        "run systemctl stop --no-block recon-executor.service"
    ]
    assert waiting == {"released": False, "txid": intent["txid"], "step": "claim"}
    # What its ExecStopPost does; the unit is gone only then.
    outcome = executor.execute(bench.machine, intent["txid"], recover=True)
    end_unit(bench)
    assert (outcome["state"], outcome["code"], outcome["epoch"]) == ("aborted", "REC7116", 3)
    assert ask(bench, held.epoch, name="release-of-a-second-try") == {
        "released": True,
        "epoch": 4,
        "stopped": intent["txid"],
    }
    assert history.recent(bench.machine)[-1]["taken_from"] == intent["txid"]
    assert bench.serving() == REASONING
    assert [(line["epoch"], line["state"]) for line in history.recent(bench.machine) if "state" in line] == [
        (1, "applied"),
        (3, "aborted"),
        (4, "released"),
    ]


def test_a_transaction_that_began_meanwhile_is_not_the_one_that_was_meant(bench: Bench) -> None:
    first = bench.intent("vision")
    apply(bench, first)
    held = lease.take(bench.machine, owner="ci@example.net", txid=first["txid"], boot_id="b")
    ask(bench, held.epoch)
    executor.execute(bench.machine, first["txid"], recover=True)
    end_unit(bench)
    second = bench.intent("vision")

    apply(bench, second)
    assert code_of(bench, held.epoch) == "REC7152"
    assert executor.execute(bench.machine, second["txid"])["state"] == "applied"
    end_unit(bench)
    assert code_of(bench, held.epoch) == "REC7152"


def test_nothing_is_granted_while_somebody_executes_by_hand(bench: Bench) -> None:
    with bench.machine.lock(places.LOCK):
        assert code_of(bench, 1) == "REC7153"
    assert lease.read_epoch(bench.machine) == 1


def test_a_holder_whose_claim_was_taken_changes_nothing_more(bench: Bench) -> None:
    holder = lease.take(bench.machine, owner="ci@example.net", txid="t-old", boot_id="b")
    ask(bench, holder.epoch)

    with pytest.raises(lease.LeaseError, match="the claim of epoch 2 is over: the host is at epoch 3"):
        holder.check()


def test_a_lease_that_cannot_be_read_is_held_and_the_message_has_the_command(bench: Bench) -> None:
    intent = bench.intent("vision")
    bench.machine.write(places.LEASE, bench.machine.read(places.EPOCH).replace(b"1", b"2", 1))

    answer = apply(bench, intent)

    assert answer["launched"] is False
    assert answer["problem"]["code"] == "REC7150"
    assert answer["problem"]["fix"] == "recon lock force-release h-1 --epoch 1 --reason TEXT"
    outcome = bench.execute(intent)
    assert (outcome.state, outcome.code, outcome.fix) == ("locked", "REC7150", answer["problem"]["fix"])
    assert bench.serving() == REASONING


def test_a_lease_that_a_dead_executor_left_is_void(bench: Bench) -> None:
    lease.take(bench.machine, owner="ci@example.net", txid="t-old", boot_id="another boot")
    state = HostState.model_validate(observe.observe(bench.machine, bench.question(), CONTEXT))

    assert not state.executor.active
    assert bench.run("vision").state == "applied"
    assert bench.machine.stat(places.LEASE) is None


def test_an_executor_that_died_before_its_first_line_is_not_begun_again(bench: Bench) -> None:
    intent = bench.intent("vision")
    apply(bench, intent)

    outcome = executor.execute(bench.machine, intent["txid"], recover=True)

    assert (outcome["state"], outcome["code"]) == ("aborted", "REC7116")
    assert bench.serving() == REASONING


def test_a_second_order_is_told_who_was_first_before_that_one_wrote_a_word(bench: Bench) -> None:
    first, second = bench.intent("vision"), bench.intent(None)
    apply(bench, first)

    assert apply(bench, second) == {
        "launched": False,
        "lease": {"owner": "ci@example.net", "txid": first["txid"], "step": "launch", "age_s": 0.0},
    }


def test_a_second_order_that_wants_the_same_is_told_which_one_to_join(bench: Bench) -> None:
    first = bench.intent("vision")
    second = {**first, "txid": "2026-9999", "owner": "bob@laptop", "source_commit": "other"}
    apply(bench, first)

    assert apply(bench, second)["joins"] == first["txid"]
    assert read_record(bench.machine, places.transaction(first["txid"]) + "/intent.json") == first


def test_the_unit_says_whose_transaction_runs_when_the_lease_is_still_a_dead_ones(bench: Bench) -> None:
    lease.take(bench.machine, owner="bob", txid="t-dead", boot_id="b")
    intent = bench.intent("vision")
    apply(bench, intent)
    state = HostState.model_validate(observe.observe(bench.machine, bench.question(), CONTEXT))

    assert (state.executor.active, state.executor.txid) == (True, intent["txid"])
    assert state.executor.target == target_digest(bench.rendered("vision")[0])
    assert apply(bench, {**intent, "txid": "2026-9999"})["lease"]["txid"] == intent["txid"]


def test_controller_and_host_make_the_same_value_of_what_is_wanted(bench: Bench) -> None:
    rendered, _ = bench.rendered("vision")

    assert target_of(bench.intent("vision")) == target_digest(rendered)
    assert target_of(bench.intent("vision")) != target_digest(bench.rendered("reasoning")[0])

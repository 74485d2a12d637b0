"""A person's hold by command: put on, honoured until it ends, taken off, and each deed kept."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from reconciler.agent import claims, history, places
from reconciler.agent.dispatch import handle
from reconciler.agent.record import read_record
from reconciler.agent.wire import RequestError
from tests.agent.bench import CONTEXT, Bench

ANN = {"owner": "ann@laptop", "reason": "a new disk"}


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    return bench


def deed(bench: Bench, name: str, **args: Any) -> dict[str, Any]:
    return handle(bench.machine, "hold", {"deed": name, "host": "h-1", **args}, CONTEXT)


def code_of(bench: Bench, name: str, **args: Any) -> tuple[str, str]:
    with pytest.raises(RequestError) as caught:
        deed(bench, name, **args)
    return caught.value.code, caught.value.detail


def lines(bench: Bench) -> list[dict[str, Any]]:
    told = [line for line in history.recent(bench.machine) if line.get("kind") == "hold"]
    return [{key: value for key, value in line.items() if key != "at"} for line in told]


def test_a_hold_keeps_every_order_out_until_somebody_takes_it_off(bench: Bench) -> None:
    intent = bench.intent("vision")
    told = deed(bench, "hold", **ANN)
    assert told == {"hold": {**ANN, "since": told["hold"]["since"], "until": None}, "running": None}
    held = bench.execute(bench.looked_at(intent))
    assert (held.state, held.code, held.reason) == ("locked", "REC7111", "held by ann@laptop: a new disk")

    assert deed(bench, "release", owner="bob", reason="it is in") == {"holder": "ann@laptop"}

    assert bench.execute(bench.looked_at({**intent, "txid": "2026-0099"})).state == "applied"
    line = {"kind": "hold", "host": "h-1"}
    assert lines(bench) == [
        {**line, **ANN, "deed": "held", "until": None},
        {**line, "deed": "released", "owner": "bob", "reason": "it is in", "holder": "ann@laptop"},
    ]


def test_a_hold_with_an_end_lets_go_by_itself(bench: Bench) -> None:
    intent = bench.intent("vision")
    told = deed(bench, "hold", **ANN, for_s=3600.0)
    assert told["hold"]["until"] == pytest.approx(bench.machine.wall() + 3600.0)
    bench.machine.clock.advance(3599.0)
    assert bench.execute(bench.looked_at(intent)).state == "locked"
    bench.machine.clock.advance(2.0)

    assert claims.hold(bench.machine) is None
    assert bench.execute(bench.looked_at({**intent, "txid": "2026-0099"})).state == "applied"
    assert deed(bench, "hold", owner="bob", reason="mine now", until=bench.machine.wall() + 9)["hold"]["owner"] == "bob"


@pytest.mark.parametrize("ends", [{"until": 1.0}, {"for_s": 0}, {"for_s": -1}, {"for_s": 4e7}, {"until": "noon"}])
def test_an_end_that_is_past_or_no_time_is_refused(bench: Bench, ends: dict[str, Any]) -> None:
    assert code_of(bench, "hold", **ANN, **ends)[0] == "REC7311"
    assert bench.machine.stat(places.HOLD) is None


@pytest.mark.parametrize("over", [{"owner": ""}, {"reason": " "}, {"reason": "a\tb"}, {"reason": None}])
def test_who_and_why_are_wanted_for_both_deeds(bench: Bench, over: dict[str, Any]) -> None:
    assert code_of(bench, "hold", **{**ANN, **over})[0] == "REC7304"
    deed(bench, "hold", **ANN)
    assert code_of(bench, "release", **{**ANN, **over})[0] == "REC7304"
    assert read_record(bench.machine, places.HOLD)["owner"] == "ann@laptop"


def test_what_somebody_else_holds_is_not_replaced_and_ones_own_is(bench: Bench) -> None:
    deed(bench, "hold", **ANN)

    assert code_of(bench, "hold", owner="bob", reason="x") == ("REC7312", "by ann@laptop: a new disk")
    deed(bench, "hold", owner="ann@laptop", reason="still at it")
    assert read_record(bench.machine, places.HOLD)["reason"] == "still at it"


def test_a_hold_written_by_hand_is_taken_off_and_one_that_cannot_be_read_is_put_aside(bench: Bench) -> None:
    bench.machine.write(places.HOLD, json.dumps({"owner": "ada", "reason": "x", "since": 1}).encode())
    assert deed(bench, "release", **ANN) == {"holder": "ada"}
    bench.machine.write(places.HOLD, b"hands off")

    assert code_of(bench, "hold", **ANN)[0] == "REC7312"
    assert deed(bench, "release", **ANN) == {"holder": None, "aside": f"{places.HOLD}.corrupt-1"}
    assert bench.machine.read(f"{places.HOLD}.corrupt-1") == b"hands off"
    assert code_of(bench, "release", **ANN)[0] == "REC7313"


def test_a_transition_that_runs_goes_on_and_the_one_who_holds_is_told(bench: Bench) -> None:
    intent = bench.intent("vision")
    handle(bench.machine, "apply", {"intent": intent}, CONTEXT)

    assert deed(bench, "hold", **ANN)["running"] == intent["txid"]


def test_a_full_disk_puts_no_hold_on_and_takes_none_off(bench: Bench) -> None:
    full = True

    def hook(when: str, what: str) -> None:
        if full and when == "before" and what.startswith(("write", "append")):
            raise OSError(errno.ENOSPC, "No space left on device", what.split(" ")[1])

    bench.machine.hook = hook
    assert code_of(bench, "hold", **ANN)[0] == "REC7309"
    assert bench.machine.stat(places.HOLD) is None
    full = False
    deed(bench, "hold", **ANN)
    full = True
    assert code_of(bench, "release", **ANN)[0] == "REC7309"
    assert claims.hold(bench.machine) is not None


def test_an_unknown_deed_is_no_request(bench: Bench) -> None:
    assert code_of(bench, "grab")[0] == "REC5016"

"""The outbox in virtual time: order, at least once over every crash, back-off, and receivers that misbehave."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.agent import deliver, event, executor, history, history_parts, observe, outbox, places
from reconciler.agent.machine import Response
from reconciler.agent.record import RecordError, read_record
from reconciler.model.events import Events
from reconciler.model.observed import HostState, Known
from reconciler.model.observed_outbox import WebhookState
from reconciler.sim.deeds import edit_unit
from reconciler.sim.fleet import run_agent
from reconciler.sim.machine import KilledError, PowerCutError, StoppedError
from reconciler.sim.state import Node
from tests.agent.bench import CONTEXT, Bench
from tests.agent.test_webhook import OTHER, SECRET, by_the_standard

URL = "https://hooks.example.net/recon"
FILE = "/etc/recon/secrets/ops"


class Receiver:
    """Takes what is posted, verifies it as the standard says, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.answer: Callable[[], Response] = lambda: Response(204, b"")
        self.secrets = [SECRET]
        self.headers: list[dict[str, str]] = []

    def __call__(self, headers: dict[str, str], body: bytes) -> Response:
        assert any(by_the_standard(secret, headers, body) for secret in self.secrets)
        self.headers.append(headers)
        answer = self.answer()
        if 200 <= answer.status < 300:
            self.got.append((headers["webhook-id"], json.loads(body)))
        return answer

    @property
    def types(self) -> list[str]:
        return [body["type"] for _, body in self.got]

    @property
    def ids(self) -> list[str]:
        return [name for name, _ in self.got]


class Told(Bench):
    """A host whose events go to one receiver."""

    def __init__(self, **webhook: Any) -> None:
        super().__init__()
        self.webhooks = Events.model_validate(
            {"webhooks": {"ops": {"url": URL, "secret_file": FILE, "timeout": "5s", **webhook}}}
        )
        self.receiver = Receiver()
        self.keys(SECRET)
        self.attend()

    def copy(self) -> Told:
        other = super().copy()
        assert isinstance(other, Told)
        other.receiver = Receiver()
        other.attend()
        return other

    def attend(self) -> None:
        self.machine.receivers[URL] = self.receiver
        self.machine.manager.program = lambda argv: run_agent(self.machine, argv)

    def keys(self, data: bytes, mode: int = 0o600) -> None:
        self.machine.files.make_dirs(places.SECRETS)
        self.machine.files.put(FILE, Node.of(data + b"\n", mode))

    def wait(self, seconds: float) -> None:
        self.machine.clock.advance(seconds)

    def state(self) -> WebhookState:
        found = HostState.model_validate(observe.observe(self.machine, self.question(), CONTEXT)).outbox
        assert isinstance(found, Known), found
        return found.value.webhooks["ops"]

    def lines(self) -> list[str]:
        return [event.of(line).id for line in history.recent(self.machine)]


def test_a_receiver_is_told_of_start_and_end_of_every_transition_in_order() -> None:
    host = Told()
    assert host.run("reasoning").state == "applied"
    assert host.run("vision").state == "applied"
    host.wait(1.0)

    assert host.receiver.types == ["transition.started", "transition.completed"] * 2
    assert host.receiver.ids == host.lines()
    first, last = host.receiver.got[0][1], host.receiver.got[-1][1]
    assert first == {
        "type": "transition.started",
        "timestamp": first["timestamp"],
        "data": {
            "fleet": "studio",
            "host": "h-1",
            "kind": "started",
            "transaction": "2026-0001",
            "owner": "ci@example.net",
            "source_commit": "c0ffee",
            "plan_digest": "sha256:" + "0" * 64,
            "from_generation": None,
            "wanted": {"all": "reasoning"},
            "at": first["data"]["at"],
        },
    }
    assert (last["data"]["transaction"], last["data"]["state"], last["data"]["live"]) == (
        "2026-0002",
        "applied",
        {"all": "vision"},
    )
    assert {"webhook-id", "webhook-timestamp", "webhook-signature"} == set(host.receiver.headers[0])
    assert host.state() == WebhookState(pending=0, oldest_at=None, failures=0, error="", next_s=0.0, off=False, note="")


def test_only_what_is_asked_for_is_sent_and_the_rest_is_passed_by_for_good() -> None:
    host = Told(events=("transition.completed", "host.*"))
    host.run("reasoning")
    history.append(host.machine, {"kind": "reap", "at": 5.0})
    host.wait(40.0)

    assert host.receiver.types == ["transition.completed", "host.reap"]
    assert host.state().pending == 0


def test_an_hour_without_a_receiver_loses_nothing_and_changes_no_outcome() -> None:
    host = Told()
    host.receiver.answer = lambda: Response(0, b"connection refused")
    assert host.run("reasoning").state == "applied"
    assert host.run("vision").state == "applied"
    host.wait(3600.0)
    waiting = host.state()
    assert (waiting.pending, waiting.error, waiting.off) == (4, "no answer: connection refused", False)
    assert waiting.failures > 5
    tried = len(host.receiver.headers)
    assert tried < 20
    assert {headers["webhook-id"] for headers in host.receiver.headers} == {host.lines()[0]}

    host.receiver.answer = lambda: Response(200, b"")
    host.wait(deliver.LONGEST_S + 60.0)

    assert host.receiver.ids == host.lines()
    assert host.receiver.types == ["transition.started", "transition.completed"] * 2


def test_the_history_may_turn_over_while_a_receiver_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_parts, "LONG", 20_000)
    host = Told()
    host.run("reasoning")
    host.wait(60.0)
    host.receiver.got.clear()
    host.receiver.answer = lambda: Response(503, b"")
    for number in range(600):
        history.append(host.machine, {"kind": "lock", "deed": "acquire", "number": number, "at": float(number)})
    assert len(history_parts.numbers(host.machine)) >= 2
    assert host.state().pending == 600

    host.receiver.answer = lambda: Response(200, b"")
    host.wait(deliver.LONGEST_S)

    assert [body["data"]["number"] for _, body in host.receiver.got] == list(range(600))


@pytest.mark.parametrize("how", [KilledError, PowerCutError])
def test_whatever_is_cut_off_nothing_is_lost_and_a_second_time_has_the_same_id(how: type[StoppedError]) -> None:
    host = Told()
    host.run("reasoning")
    wanted: list[str] = []
    cuts = 0
    for number in range(40):
        one = host.copy()
        one.machine.remove_tree(places.OUTBOX)
        changes: list[str] = []

        def cut(when: str, what: str, at: int = number, changes: list[str] = changes) -> None:
            if when == "before":
                changes.append(what)
                if len(changes) > at:
                    raise how

        one.machine.hook = cut
        try:
            deliver.deliver(one.machine)
        except StoppedError:
            cuts += 1
            one.machine.hook = None
            if how is KilledError:
                one.machine.revive()
            else:
                one.machine.reboot()
            one.attend()
            deliver.deliver(one.machine)
        else:
            assert cuts, "nothing was cut"
            break
        wanted = one.lines()
        assert list(dict.fromkeys(one.receiver.ids)) == wanted, number
        assert len(one.receiver.ids) <= len(wanted) + 1, number
    assert cuts >= 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, "it answered 302, and nobody is sent on to another address"),
        (400, "it answered 400"),
        (500, "it answered 500"),
    ],
)
def test_an_answer_that_is_no_success_keeps_the_event(status: int, error: str) -> None:
    host = Told()
    host.receiver.answer = lambda: Response(status, b"elsewhere")
    assert host.run("reasoning").state == "applied"
    host.wait(1.0)
    found = host.state()
    assert (found.pending, found.error, found.off) == (2, error, False)


def test_a_receiver_that_is_gone_is_left_alone_until_its_declaration_changes() -> None:
    host = Told()
    host.receiver.answer = lambda: Response(410, b"")
    host.run("reasoning")
    host.wait(7200.0)
    assert len(host.receiver.headers) == 1
    assert (host.state().off, host.state().pending) == (True, 2)

    host.receiver.answer = lambda: Response(200, b"")
    host.webhooks = Events.model_validate({"webhooks": {"ops": {"url": URL, "secret_file": FILE, "timeout": "6s"}}})
    host.run("vision")
    host.wait(1.0)
    assert host.receiver.types == ["transition.started", "transition.completed"] * 2


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda host: host.keys(SECRET, 0o644), "(uid 0, mode 0644): chmod 600, chown root"),
        (lambda host: host.keys(b"hunter2hunter2"), "line 1 is not whsec_ and base64 of 24 to 64 bytes"),
        (lambda host: host.machine.remove(FILE), "is not there: it holds the keys of the webhook"),
        (
            lambda host: (host.machine.remove(FILE), host.machine.symlink("/etc/machine-id", FILE)),
            "is no file in a directory of its own",
        ),
    ],
)
def test_keys_that_others_could_read_or_that_are_none_are_not_used(break_it: Callable[[Told], Any], why: str) -> None:
    host = Told()
    break_it(host)
    assert host.run("reasoning").state == "applied"
    host.wait(1.0)
    assert host.receiver.headers == []
    found = host.state()
    assert found.error.endswith(why), found
    assert "hunter2" not in json.dumps(host.machine.state.logs)

    host.keys(SECRET)
    host.wait(60.0)
    assert len(host.receiver.got) == 2


def test_a_key_is_changed_without_a_gap() -> None:
    host = Told()
    host.run("reasoning")
    host.keys(OTHER + b"\n" + SECRET)
    host.run("vision")
    host.receiver.secrets = [OTHER]
    host.keys(OTHER)
    host.run("reasoning")
    host.wait(1.0)
    assert len(host.receiver.got) == 6
    assert host.receiver.ids == host.lines()


def test_a_record_that_is_damaged_is_told_and_everything_it_may_have_missed_is_sent_again() -> None:
    host = Told()
    host.run("reasoning")
    host.wait(1.0)
    path = places.outbox("ops")
    host.machine.write(path, host.machine.read(path).replace(b'"part":1', b'"part":9'))
    with pytest.raises(RecordError):
        read_record(host.machine, path)
    damaged = observe.observe(host.machine, host.question(), CONTEXT)["damaged"]
    assert [each["path"] for each in damaged] == [path]

    host.wait(60.0)

    assert host.receiver.ids == host.lines() * 2
    damaged = observe.observe(host.machine, host.question(), CONTEXT)["damaged"]
    assert [each["path"] for each in damaged] == [f"{path}.corrupt-1"]


def test_a_line_of_the_history_that_is_damaged_takes_no_other_event_with_it() -> None:
    host = Told()
    host.run("reasoning")
    host.wait(1.0)
    host.receiver.got.clear()
    data = host.machine.read(places.HISTORY)
    host.machine.write(places.HISTORY, data.replace(b'"state":"applied"', b'"state":"nothing"'))
    host.run("vision")
    host.wait(60.0)
    assert host.receiver.types == ["transition.started", "transition.completed"]


def test_pauses_grow_to_ten_minutes_and_differ_from_host_to_host() -> None:
    pauses = [deliver.pause_s(number, "ops evt_1") for number in range(1, 40)]
    assert all(deliver.FIRST_S * 2 ** min(n, 20) / 2 <= pause or pause >= 300 for n, pause in enumerate(pauses))
    assert max(pauses) <= deliver.LONGEST_S
    assert pauses[0] <= deliver.FIRST_S
    assert pauses == [deliver.pause_s(number, "ops evt_1") for number in range(1, 40)]
    assert deliver.pause_s(5, "ops evt_1") != deliver.pause_s(5, "ops evt_2")


def test_after_a_boot_nobody_waits_for_a_clock_that_began_again() -> None:
    host = Told()
    host.receiver.answer = lambda: Response(500, b"")
    host.run("reasoning")
    host.wait(3600.0)
    host.receiver.answer = lambda: Response(200, b"")
    host.machine.reboot()
    host.attend()
    host.wait(40.0)
    assert host.receiver.types[:2] == ["transition.started", "transition.completed"]


def test_one_receiver_that_is_down_keeps_no_other_waiting() -> None:
    host = Told()
    other = Receiver()
    host.webhooks = Events.model_validate(
        {
            "webhooks": {
                "ops": {"url": URL, "secret_file": FILE},
                "audit": {"url": "https://audit.example.net/", "secret_file": FILE},
            }
        }
    )
    host.machine.receivers["https://audit.example.net/"] = other
    host.receiver.answer = lambda: Response(0, b"no route")
    host.run("reasoning")
    host.wait(1.0)
    assert other.ids == host.lines()
    assert host.receiver.got == []


def test_a_webhook_that_comes_later_begins_with_the_transition_that_brought_it() -> None:
    host = Told()
    kept, host.webhooks = host.webhooks, None
    host.run("reasoning")
    host.webhooks = kept
    host.run("vision")
    host.wait(1.0)
    assert [body["data"]["transaction"] for _, body in host.receiver.got] == ["2026-0002"] * 2

    host.webhooks = None
    host.run("reasoning")
    host.wait(60.0)
    # It was told that the transition began which took it away; of the end nobody wants to hear.
    assert host.receiver.types[2:] == ["transition.started"]
    assert not outbox.declared(host.machine)
    assert host.machine.listdir(places.OUTBOX) == []


def without(host: Told) -> Events | None:
    """Take its webhooks away from a host to which one transition was told."""
    host.run("reasoning")
    host.wait(60.0)
    kept, host.webhooks = host.webhooks, None
    return kept


def test_the_last_webhook_that_is_taken_away_and_declared_again_is_told_nothing_of_between() -> None:
    host = Told()
    kept = without(host)
    host.run("vision")
    host.wait(60.0)
    before = len(host.receiver.got)
    for number in range(300):
        history.append(host.machine, {"kind": "reap", "at": float(number), "n": number})
    host.webhooks = kept
    host.run("reasoning")
    host.wait(120.0)

    assert host.receiver.types[before:] == ["transition.started", "transition.completed"]
    assert {body["data"]["transaction"] for _, body in host.receiver.got[before:]} == {"2026-0003"}


def test_a_webhook_that_is_taken_away_while_it_is_told_is_forgotten_by_that_delivery() -> None:
    host = Told()
    host.run("reasoning")
    host.wait(60.0)
    history.append(host.machine, {"kind": "reap", "at": 1.0})

    def gone() -> Response:
        host.receiver.answer = lambda: Response(204, b"")
        host.webhooks = None
        assert host.run("vision").state == "applied"
        assert host.machine.listdir(places.OUTBOX) == ["ops.json"]
        return Response(204, b"")

    host.receiver.answer = gone
    host.wait(60.0)

    assert host.webhooks is None
    assert host.machine.listdir(places.OUTBOX) == []


def test_a_record_that_cannot_be_forgotten_changes_no_outcome() -> None:
    host = Told()
    without(host)

    def read_only(when: str, what: str) -> None:
        if when == "before" and what == f"remove {places.outbox('ops')}":
            raise OSError(errno.EROFS, "Read-only file system", places.outbox("ops"))

    host.machine.hook = read_only
    outcome = host.run("vision")

    assert (outcome.state, outcome.reason) == ("applied", "generation 2 is committed")
    assert host.machine.listdir(places.OUTBOX) == ["ops.json"]
    host.machine.hook = None
    assert deliver.deliver(host.machine) == {"said": "no webhooks are declared"}
    assert host.machine.listdir(places.OUTBOX) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", [KilledError, PowerCutError])
def test_an_executor_that_ends_while_it_forgets_is_followed_by_one_that_does_it(
    how: type[StoppedError], when: str
) -> None:
    host = Told()
    without(host)
    txid = host.submit(host.intent("vision"))

    def cut(at: str, what: str) -> None:
        if (at, what) == (when, f"remove {places.outbox('ops')}"):
            raise how

    host.strike(txid, cut)
    if how is PowerCutError:
        host.machine.reboot()
    else:
        host.machine.revive()
    assert executor.execute(host.machine, txid, recover=True)["state"] == "applied"

    assert host.machine.listdir(places.OUTBOX) == []


def test_a_test_goes_to_every_webhook_whatever_it_asks_for_and_leaves_no_trace() -> None:
    host = Told(events=("transition.held",))
    host.run("reasoning")
    before = host.machine.read(places.HISTORY)

    answer = deliver.try_out(host.machine, "ada@example.net")

    assert {name: (each["status"], each["error"]) for name, each in answer["webhooks"].items()} == {"ops": (204, "")}
    assert host.receiver.types == ["test"]
    assert host.receiver.got[0][1]["data"]["owner"] == "ada@example.net"
    assert host.machine.read(places.HISTORY) == before


def test_a_started_line_is_never_taken_for_an_end() -> None:
    host = Told()
    txid = host.submit(host.intent("reasoning"))

    def cut(when: str, what: str) -> None:
        if when == "before" and what.startswith("mkdir /etc/recon/generations"):
            raise KilledError

    host.strike(txid, cut)
    assert [line["kind"] for line in history.recent(host.machine)] == ["started"]
    assert not history.has(host.machine, txid)
    assert history.ended(host.machine) == []

    host.machine.revive()
    assert executor.execute(host.machine, txid, recover=True)["state"] == "aborted"
    assert [event.type_of(line) for line in history.recent(host.machine)] == [
        "transition.started",
        "transition.failed",
    ]


def test_new_drift_is_told_once_and_again_when_it_comes_back() -> None:
    from reconciler.model.desired import Watchdog

    host = Told()
    host.watchdog = Watchdog()
    host.run("reasoning")
    host.wait(120.0)
    host.receiver.got.clear()
    name = "recon-gate-all-vision.service"
    path = f"{places.NATIVE}/{name}"
    good = host.machine.read(path)

    host.machine.write(path, good + b"# by hand\n")
    host.wait(300.0)
    assert [body["data"]["found"] for _, body in host.receiver.got] == [[f"{path} was changed"]]
    assert host.receiver.types == ["drift.found"]

    host.machine.write(path, good)
    host.wait(120.0)
    host.machine.remove(path)
    host.wait(300.0)
    assert [body["data"]["found"] for _, body in host.receiver.got[1:]] == [[f"{path} is gone"]]


def test_drift_is_not_told_while_a_person_holds_the_host() -> None:
    from reconciler.model.desired import Watchdog

    host = Told()
    host.watchdog = Watchdog()
    host.run("reasoning")
    host.machine.write(places.HOLD, b'{"owner": "ada", "reason": "looking", "since": 0, "until": null}')
    edit_unit(host.machine, "recon-reasoning-vllm.service", "[Container]", "[Container]\n# by hand")
    host.wait(300.0)
    assert "drift.found" not in host.receiver.types
    host.machine.remove(places.HOLD)
    host.wait(120.0)
    assert host.receiver.types.count("drift.found") == 1

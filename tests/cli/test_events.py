"""`recon events`, `recon history`, and what status and plan say of webhooks, on simulated hosts."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from reconciler.agent import places, webhook
from reconciler.cli.app import run
from reconciler.sim.deeds import perform
from reconciler.sim.faults import set_fault
from reconciler.sim.state import Node
from tests.agent.test_webhook import OTHER, SECRET
from tests.scenarios.sim_world import SimWorld

EVENTS = "events:\n  webhooks:\n    ops: {url: 'https://h.example.net/', secret_file: /etc/recon/secrets/ops}\n"
BODY = b'{"type":"test"}'


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> SimWorld:
    """Two hosts that serve and tell one webhook, where nobody listens."""
    world = SimWorld(tmp_path)
    path = tmp_path / "desired" / "fleet.yaml"
    path.write_text(path.read_text() + EVENTS)
    assert run(["-C", str(tmp_path), "apply", "--yes"]) == 0
    capsys.readouterr()
    return world


def said(world: SimWorld, capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert run(["-C", str(world.root), *argv]) == code
    return capsys.readouterr().out


def test_the_status_says_what_waits_and_why_and_the_plan_has_no_drift(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    perform(world.fleet, "h-1", "wait", ["5"])
    status = said(world, capsys, "status", "--host", "h-1")
    assert "h-1: webhook ops: failing (" in status
    assert "/etc/recon/secrets/ops is not there: it holds the keys of the webhook, 2 events waiting" in status
    said(world, capsys, "plan", "--detailed-exitcode")

    with world.fleet.open("h-1") as machine:
        machine.files.make_dirs(places.SECRETS)
        machine.files.put("/etc/recon/secrets/ops", Node.of(SECRET, 0o600))
    perform(world.fleet, "h-1", "wait", ["600"])
    assert "no answer: no route to host, 2 events waiting" in said(world, capsys, "status", "--host", "h-1")


def test_another_webhook_is_a_change_of_files_and_moves_no_coven(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world.root / "desired" / "fleet.yaml"
    path.write_text(path.read_text().replace("h.example.net", "other.example.net"))
    shown = said(world, capsys, "plan", "--host", "h-1", "--output", "json")
    plan = json.loads(shown)["hosts"][0]
    assert [(each["address"], each["actions"]) for each in plan["changes"]] == [
        ("h-1/file/recon-events.service", ["write"])
    ]
    assert plan["transitions"] == []
    assert "-Url-ops=https://h.example.net/" in plan["changes"][0]["diff"]


def test_a_timer_of_events_that_was_stopped_is_drift_and_is_started_again(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    with world.fleet.open("h-1") as machine:
        machine.run(["systemctl", "stop", "recon-events.timer"], 5.0)
    shown = said(world, capsys, "plan", "--host", "h-1", "--output", "json")
    changes = json.loads(shown)["hosts"][0]["changes"]
    assert [(each["address"], each["reason"]) for each in changes] == [
        ("h-1/timer/recon-events.timer", "recon-events.timer is not running: events are told late, or not at all")
    ]
    said(world, capsys, "apply", "--yes", "--host", "h-1")
    said(world, capsys, "plan", "--host", "h-1", "--detailed-exitcode")


def test_a_test_says_for_every_webhook_what_it_answered(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(world, capsys, "events", "test", "--host", "h-1", code=1)
    assert shown == (
        "h-1: webhook ops failed (0 s): /etc/recon/secrets/ops is not there: it holds the keys of the webhook\n"
    )
    document = json.loads(said(world, capsys, "events", "test", "--host", "h-2", "--output", "json", code=1))
    assert (document["status"], list(document["hosts"]["h-2"]["webhooks"])) == ("failed", ["ops"])


def test_where_no_webhook_is_committed_a_test_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = SimWorld(tmp_path)
    assert run(["-C", str(tmp_path), "apply", "--yes"]) == 0
    capsys.readouterr()
    assert said(world, capsys, "events", "test", "--host", "h-1", code=1) == (
        "h-1: not tried [REC7326] no webhooks are declared: the committed generation has none\n"
        "  hint: add events: to fleet.yaml, then recon apply\n"
    )


def test_a_host_that_does_not_answer_keeps_no_other_from_being_tried(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    with world.fleet.open("h-1") as machine:
        set_fault(machine.state, "down", "*")
    first, second, *hint = said(world, capsys, "events", "test", code=8).splitlines()
    assert first == (
        "h-2: webhook ops failed (0 s): /etc/recon/secrets/ops is not there: it holds the keys of the webhook"
    )
    assert second.startswith("h-1: unreachable [REC6007] the host does not accept the connection: ")
    assert [line[:8] for line in hint] == ["  hint: "]

    document = json.loads(said(world, capsys, "events", "test", "--output", "json", code=8))
    assert (document["status"], list(document["hosts"]["h-2"]["webhooks"])) == ("incomplete", ["ops"])
    assert list(document["hosts"]["h-1"]) == ["unknown"]


def test_a_host_without_webhooks_keeps_no_other_from_being_tried(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world.root / "desired" / "fleet.yaml"
    path.write_text(path.read_text().replace(EVENTS, ""))
    said(world, capsys, "apply", "--yes", "--host", "h-1")
    shown = said(world, capsys, "events", "test", code=1)
    assert [line.partition(" (")[0] for line in shown.splitlines()] == [
        "h-2: webhook ops failed",
        "h-1: not tried [REC7326] no webhooks are declared: the committed generation has none",
        "  hint: add events: to fleet.yaml, then recon apply",
    ]


def test_the_history_says_who_from_which_commit_and_how_long_each_step_took(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = said(world, capsys, "history", "h-1")
    lines = shown.splitlines()
    assert lines[0] == "h-1"
    assert "  started " in lines[1]
    assert " by " in lines[1]
    assert lines[2].startswith("      commit uncommitted, plan sha256:")
    assert "  applied " in lines[3]
    assert "claim " in lines[-1]
    assert "commit " in lines[-1]

    document = json.loads(said(world, capsys, "history", "--output", "json", "--limit", "1"))
    assert (document["command"], document["status"]) == ("history", "ok")
    assert [line["state"] for line in document["hosts"]["h-2"]["lines"]] == ["applied"]
    assert "claim" in document["hosts"]["h-2"]["lines"][0]["steps_s"]


def test_a_history_that_was_changed_is_told(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    with world.fleet.open("h-1") as machine:
        data = machine.read(places.HISTORY)
        machine.write(places.HISTORY, data.replace(b'"state":"applied"', b'"state":"nothing"'))
    shown = said(world, capsys, "history", "h-1", code=1)
    assert shown.splitlines()[-1] == (
        "  damaged [REC5022] /var/lib/recon/history.jsonl: line 2 is not as it was written"
    )
    assert "nothing" not in shown.replace("nothing has happened", "")


class Stdin:
    """What a shell pipes in."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, headers: dict[str, str], *more: str, body: bytes = BODY
) -> int:
    keys = tmp_path / "keys"
    keys.write_bytes(SECRET + b"\n" + OTHER + b"\n")
    monkeypatch.setattr("sys.stdin", Stdin(body))
    words = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
    return run(["events", "verify", "--secret-file", str(keys), *words, *more])


def test_a_message_is_believed_once_and_never_a_second_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = ["--seen", str(tmp_path / "seen")]
    for name, secret in (("evt_1", SECRET), ("evt_2", OTHER)):
        headers = webhook.sign(webhook.read_keys(secret), name, int(time.time()), BODY)
        assert check(monkeypatch, tmp_path, headers, *seen) == 0
        assert capsys.readouterr().out.startswith(f"{name} is whole, of now, and signed with a key of ")
        assert check(monkeypatch, tmp_path, headers, *seen) == 3
        assert (
            f"error[REC7332]: the message was taken before\n  why: {name} was taken before" in capsys.readouterr().err
        )


@pytest.mark.parametrize(
    "line",
    [
        b"evt_0",
        b"",
        b"[1]",
        b'"evt_0"',
        b"{}",
        b'{"id": "evt_0"}',
        b'{"at": 1.0}',
        b'{"id": "evt_0", "at": null}',
        b'{"id": "evt_0", "at": NaN}',
        b'{"id": 3, "at": 1.0}',
        b'{"id": "\xff", "at": 1.0}',
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:30]),
)
def test_a_memory_that_is_none_is_refused_with_its_line_and_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes
) -> None:
    seen = tmp_path / "seen"
    data = b'{"id": "evt_7", "at": 1.0}\n' + line + b"\n"
    seen.write_bytes(data)
    headers = webhook.sign(webhook.read_keys(SECRET), "evt_1", int(time.time()), BODY)

    assert check(monkeypatch, tmp_path, headers, "--seen", str(seen)) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"error[REC7453]: the memory of ids cannot be used\n  at {seen}:2:1\n")
    assert f"hint: correct or remove that line; or begin anew: mv {seen} {seen}.old" in told
    assert seen.read_bytes() == data

    seen.rename(f"{seen}.old")
    assert check(monkeypatch, tmp_path, headers, "--seen", str(seen)) == 0


def test_what_is_not_to_be_believed_is_refused_and_not_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = ["--seen", str(tmp_path / "seen")]
    now = int(time.time())
    good = webhook.sign(webhook.read_keys(SECRET), "evt_1", now, BODY)
    old = webhook.sign(webhook.read_keys(SECRET), "evt_1", now - 3600, BODY)
    for headers, body, code in (
        (good, BODY + b"x", "REC7329"),
        (old, BODY, "REC7330"),
        ({"webhook-id": "evt_1"}, BODY, "REC7328"),
    ):
        assert check(monkeypatch, tmp_path, headers, *seen, body=body) == 3
        assert f"error[{code}]" in capsys.readouterr().err
    assert check(monkeypatch, tmp_path, good, *seen) == 0
    assert check(monkeypatch, tmp_path, old, "--tolerance", "2h") == 0


def test_a_file_of_keys_that_is_none_is_refused_without_a_word_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("hunter2\n")
    monkeypatch.setattr("sys.stdin", Stdin(BODY))
    assert run(["events", "verify", "--secret-file", str(keys), "--header", "a: b"]) == 3
    told = capsys.readouterr().err
    assert "error[REC7331]" in told
    assert "hunter2" not in told

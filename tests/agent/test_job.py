"""Jobs and journals on a simulated host: what may be started by hand, and whose lines are shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from reconciler.agent import dispatch, history, places, unit_log
from reconciler.agent.machine import Completed
from reconciler.agent.user_scope import Account, UserMachine
from reconciler.agent.wire import RequestError
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node
from tests.agent.ticks import HOST, ROOT, commit, job, spec

CONTEXT = {"digest": "simulated", "mode": "simulated", "bundle": None}
REFILL = "recon-job-refill.service"


@pytest.fixture
def machine() -> SimMachine:
    machine = SimMachine.new(HOST, "h200", seed=3)
    machine.files.make_dirs(ROOT)
    for name, program in (("refill", "/usr/bin/true"), ("broken", "/usr/bin/false")):
        text = f"[Service]\nType=oneshot\nExecStart={program}\n"
        machine.files.put(f"{places.NATIVE}/recon-job-{name}.service", Node.of(text.encode()))
    machine.manager.daemon_reload()
    commit(machine, spec(jobs=[job("refill"), job("broken")]))
    return machine


def ask(machine: SimMachine, verb: str, **args: Any) -> dict[str, Any]:
    return dispatch.handle(machine, verb, args, CONTEXT)


def run(machine: SimMachine, name: str) -> dict[str, Any]:
    """Start a job and follow it to its end; return the last answer, with all lines."""
    begun = ask(machine, "run", job=name, owner="anna")
    lines, after = [], begun["cursor"]
    for _ in range(50):
        news = ask(machine, "job", job=name, after=after, wait_s=1.0)
        lines += [each["text"] for each in news["lines"]]
        after = news["cursor"]
        if news["result"] is not None:
            return {**news, "lines": lines, "joined": begun["joined"]}
        machine.sleep(0.2)
    raise AssertionError("the job never ended")


def code_of(machine: SimMachine, verb: str, **args: Any) -> str:
    with pytest.raises(RequestError) as caught:
        ask(machine, verb, **args)
    return caught.value.code


def test_a_job_runs_as_its_unit_and_its_end_is_told(machine: SimMachine) -> None:
    done = run(machine, "refill")

    assert (done["unit"], done["result"]) == (REFILL, {"ok": True, "text": "done"})
    line = history.recent(machine)[-1]
    assert (line["kind"], line["owner"], line["unit"]) == ("run", "anna", REFILL)


def test_a_job_that_fails_says_how_and_the_next_run_begins_anew(machine: SimMachine) -> None:
    first, second = run(machine, "broken"), run(machine, "broken")

    assert [first["result"], second["result"]] == [{"ok": False, "text": "exit status 1"}] * 2
    assert len(second["lines"]) == len(first["lines"])


class Closed(SimMachine):
    """A host whose journal this account may not read, as journalctl says it to a user of a host without /var/log."""

    def run(self, argv: Sequence[str], *args: Any, **more: Any) -> Completed:
        if argv[0] == "journalctl":
            return Completed(1, b"", b"No journal files were opened due to insufficient permissions.\n")
        return super().run(argv, *args, **more)


def test_a_job_runs_and_its_end_is_told_also_where_nobody_may_read_the_journal(machine: SimMachine) -> None:
    closed = Closed(machine.state)
    good, bad = run(closed, "refill"), run(closed, "broken")

    assert [good["result"], bad["result"]] == [{"ok": True, "text": "done"}, {"ok": False, "text": "exit status 1"}]
    said = "its lines cannot be shown: No journal files were opened due to insufficient permissions."
    assert (good["lines"], bad["lines"]) == ([said], [said])
    with pytest.raises(RequestError) as caught:
        ask(closed, "logs", service="refill")
    assert (caught.value.code, caught.value.fix) == ("REC7396", "look on the host: journalctl")


def test_a_user_who_may_not_read_the_journal_is_told_who_can_change_that(machine: SimMachine) -> None:
    user = UserMachine(Closed(machine.state), Account("solo", 1001, "/home/solo", "/run/user/1001"))

    with pytest.raises(RequestError) as caught:
        unit_log.read(user, REFILL, 5, None)

    fix = "as root on the host: usermod --append --groups systemd-journal solo"
    assert (caught.value.code, caught.value.fix) == ("REC7396", fix)


@pytest.mark.parametrize("name", ["worker", "recon-spiral-worker.service", "saturator"])
def test_a_loop_is_never_started_by_hand(machine: SimMachine, name: str) -> None:
    assert code_of(machine, "run", job=name) == "REC7393"


@pytest.mark.parametrize("name", ["", "vllm", "ssh.service", "../refill", "recon-job-refill.timer", "-h"])
def test_what_is_no_job_is_not_started(machine: SimMachine, name: str) -> None:
    assert code_of(machine, "run", job=name) == "REC7392"


def test_no_job_begins_while_the_host_is_held_or_the_spiral_is_down(machine: SimMachine) -> None:
    machine.files.make_dirs(places.DOWN_SPIRAL)
    down = code_of(machine, "run", job="refill")
    machine.files.drop_tree(places.DOWN_SPIRAL)
    machine.files.put(places.HOLD, Node.of(b'{"owner": "anna", "reason": "measuring", "since": 0.0}'))

    assert (down, code_of(machine, "run", job="refill")) == ("REC7394", "REC7394")


def test_a_job_of_the_gpu_waits_for_a_transition_and_one_of_the_processor_does_not(machine: SimMachine) -> None:
    commit(machine, spec(jobs=[job("refill"), {**job("broken"), "lane": "gpu"}]), number=2)
    machine.files.make_dirs(places.TRIAL)

    assert code_of(machine, "run", job="broken") == "REC7394"
    assert run(machine, "refill")["result"]["ok"] is True


def test_a_job_of_the_gpu_is_not_started_on_a_slot_that_is_locked_or_held_half_way(machine: SimMachine) -> None:
    commit(machine, spec(slot="all", jobs=[job("refill"), {**job("broken"), "lane": "gpu"}]), number=2)
    said = {"owner": "ada", "reason": "a benchmark", "host": HOST}
    ask(machine, "lock", deed="acquire", slot="all", ttl_s=600.0, **said)

    assert code_of(machine, "run", job="broken") == "REC7394"
    assert run(machine, "refill")["result"]["ok"] is True


# -- journals ----------------------------------------------------------------------------------------------------------


def say(machine: SimMachine, unit: str, *lines: str) -> None:
    for line in lines:
        machine.clock.log(unit, line)


def test_the_last_lines_of_a_unit_are_shown_and_then_what_comes(machine: SimMachine) -> None:
    unit = "recon-spiral-worker.service"
    say(machine, unit, "one", "two", "three")
    first = ask(machine, "logs", service="worker", lines=2)
    say(machine, unit, "four")
    news = ask(machine, "logs", service="worker", after=first["cursor"])
    nothing = ask(machine, "logs", service="worker", after=news["cursor"], wait_s=1.0)

    shown = [[each["text"] for each in answer["lines"]] for answer in (first, news, nothing)]
    assert (first["unit"], shown, nothing["cursor"]) == (unit, [["two", "three"], ["four"], []], news["cursor"])


def test_lines_are_harmless_when_they_leave_the_host(machine: SimMachine) -> None:
    say(machine, "recon-spiral-worker.service", "\x1b[2J\u202eevil\ttab")

    lines = ask(machine, "logs", service="worker")["lines"]

    assert lines[0]["text"] == "\\x1b[2J\\u202eevil tab"


@pytest.mark.parametrize("name", ["sshd.service", "*", "recon-*", "--all", "", "nvidia-persistenced"])
def test_only_units_of_recon_are_shown(machine: SimMachine, name: str) -> None:
    assert code_of(machine, "logs", service=name) == "REC7392"


def test_members_are_found_by_their_name_and_with_their_coven(machine: SimMachine) -> None:
    from reconciler.agent import ours

    def member(coven: str) -> dict[str, Any]:
        return {
            "coven": coven,
            "gate": f"recon-gate-all-{coven}.service",
            "members": [{"service": "vllm", "unit": f"recon-{coven}-vllm.service"}],
        }

    body: dict[str, Any] = {
        "groups": [member("a"), member("b")],
        "residents": [{"service": "embedder", "unit": "recon-resident-embedder.service"}],
        "spiral": spec(),
    }

    assert ours.unit_of(body, "a/vllm") == "recon-a-vllm.service"
    assert ours.unit_of(body, "recon-b-vllm") == "recon-b-vllm.service"
    assert ours.unit_of(body, "embedder") == "recon-resident-embedder.service"
    assert ours.unit_of(body, "executor") == "recon-executor.service"
    with pytest.raises(RequestError, match=r"recon-a-vllm\.service, recon-b-vllm\.service"):
        ours.unit_of(body, "vllm")


def test_a_journal_entry_of_bytes_is_read_and_a_torn_line_is_not(machine: SimMachine) -> None:
    from reconciler.agent import unit_log
    from reconciler.agent.machine import Completed

    class Canned(SimMachine):
        def run(self, argv: Any, timeout_s: float, stdin: bytes = b"", env: Any = None) -> Completed:
            del timeout_s, stdin, env
            assert argv == ["journalctl", "--no-pager", "--quiet", "--output=json", "--unit=u.service", "--lines=5"]
            entries = [
                {"__CURSOR": "1", "__REALTIME_TIMESTAMP": "2500000", "MESSAGE": [104, 105, 255]},
                {"__CURSOR": "2", "MESSAGE": None, "JOB_TYPE": "start", "JOB_RESULT": "failed"},
            ]
            return Completed(0, b"\n".join(json.dumps(each).encode() for each in entries) + b'\n{"__CUR', b"")

    page = unit_log.read(Canned(machine.state), "u.service", 5, None)

    lines = [{"at": 2.5, "text": "hi\\xff"}, {"at": 0.0, "text": ""}]
    assert page == unit_log.Page(lines, "2", "failed")

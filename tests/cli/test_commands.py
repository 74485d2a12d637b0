"""The command line as shells and pipelines see it: exit codes, streams, errors that say what to type."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.cli import common
from reconciler.cli.app import app, run
from reconciler.cli.plan import exit_code
from reconciler.errors import ExitCode
from reconciler.model.plan import Plan
from tests.scenarios.sim_world import SimWorld


@dataclass
class Ran:
    code: int
    out: str
    err: str


def recon(*argv: str) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(argv))
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    return SimWorld(tmp_path).root


@pytest.fixture
def settled(studio: Path) -> Path:
    assert recon("-C", str(studio), "apply", "--yes").code == 0
    return studio


def test_a_usage_error_is_64_and_never_2() -> None:
    ran = recon("plan", "--detailed-exitcod")

    assert ran.code == ExitCode.USAGE
    assert "--detailed-exitcode" in ran.err
    assert "hint: recon plan --help" in ran.err
    assert ran.out == ""


def test_an_unknown_command_names_the_nearest_one() -> None:
    ran = recon("aply")

    assert ran.code == ExitCode.USAGE
    assert "Did you mean 'apply'" in ran.err
    assert "hint: recon --help" in ran.err


def test_usage_errors_are_json_when_json_is_asked_for() -> None:
    ran = recon("plan", "--output", "json", "--bogus")

    assert (ran.code, ran.err) == (64, "")
    document = json.loads(ran.out)
    assert (document["status"], document["exit_code"], document["errors"][0]["code"]) == ("error", 64, "REC7018")


def test_outside_a_state_repository_the_hint_says_how_to_make_one(tmp_path: Path) -> None:
    ran = recon("-C", str(tmp_path), "plan")

    assert ran.code == ExitCode.REFUSED
    assert "recon init DIR" in ran.err


def test_without_a_terminal_apply_refuses_and_names_the_flag(studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))

    ran = recon("-C", str(studio), "apply")

    assert ran.code == ExitCode.REFUSED
    assert "REC7022" in ran.err
    assert "recon apply --yes" in ran.err
    assert not (studio / ".recon").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("y\n", 3), ("\n", 3)])
def test_only_the_whole_word_starts_an_apply(
    studio: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))

    assert recon("-C", str(studio), "apply").code == code


def test_cutting_somebody_off_takes_the_name_of_the_host(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SimWorld.rewrite(settled / "desired/hosts/h-1.yaml", r"(?m)^coven: .*$", "coven: vision")

    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    assert recon("-C", str(settled), "apply").code == ExitCode.REFUSED
    monkeypatch.setattr("sys.stdin", Terminal("h-1\n"))
    assert recon("-C", str(settled), "apply").code == ExitCode.OK


def test_no_host_matching_a_pattern_is_a_usage_error_that_lists_the_hosts(studio: Path) -> None:
    ran = recon("-C", str(studio), "plan", "--host", "nope*")

    assert ran.code == ExitCode.USAGE
    assert "h-1, h-2" in ran.err


def test_a_targeted_plan_says_so(studio: Path) -> None:
    ran = recon("-C", str(studio), "plan", "--host", "h-1", "-o", "json")

    assert json.loads(ran.out)["targeted"] == ["h-1"]


def test_the_same_intent_planned_twice_has_the_same_digest(studio: Path) -> None:
    first, second = (json.loads(recon("-C", str(studio), "plan", "-o", "json").out) for _ in range(2))

    assert first["plan_digest"] == second["plan_digest"]


def test_a_saved_plan_is_the_json_output(studio: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"

    ran = recon("-C", str(studio), "plan", "--out", str(saved), "-o", "json")

    document = json.loads(saved.read_text(encoding="utf-8"))
    assert document == json.loads(ran.out)
    assert Plan.model_validate(document).plan_digest == document["plan_digest"]


def test_text_markdown_and_json_tell_the_same_story(settled: Path) -> None:
    SimWorld.rewrite(settled / "desired/hosts/h-1.yaml", r"(?m)^coven: .*$", "coven: vision")

    text = recon("-C", str(settled), "plan").out
    markdown = recon("-C", str(settled), "plan", "-o", "markdown").out
    document = json.loads(recon("-C", str(settled), "plan", "-o", "json").out)

    assert document["summary"]["switch"] == 1
    assert "1 to switch" in text
    assert "1 switch" in markdown
    assert all(document["plan_digest"] in view for view in (text, markdown))
    assert "truncated=false" in markdown


def test_the_event_stream_ends_with_one_outcome(studio: Path) -> None:
    ran = recon("-C", str(studio), "apply", "--yes", "-o", "json")

    events: list[dict[str, Any]] = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert [events[0]["type"], events[1]["type"], events[-1]["type"]] == ["version", "planned", "outcome"]
    assert (events[-1]["exit_code"], events[-1]["outcome"]) == (0, "ok")
    assert {event["type"] for event in events} == {
        "version",
        "planned",
        "host_start",
        "step",
        "host_complete",
        "outcome",
    }


def test_status_tells_a_host_that_is_down_from_one_that_is_up(settled: Path) -> None:
    recon("-C", str(settled), "sim", "do", "h-2", "down")

    ran = recon("-C", str(settled), "status")

    assert ran.code == ExitCode.UNKNOWN_OUTCOME
    assert "h-2: unreachable" in ran.out


@pytest.mark.parametrize(
    ("statuses", "unknowns", "code"),
    [
        (["ok"], (), ExitCode.OK),
        (["ok"], ("the GPUs",), ExitCode.UNKNOWN_OUTCOME),
        (["ok", "unreachable"], (), ExitCode.UNKNOWN_OUTCOME),
        (["refused", "unreachable"], (), ExitCode.REFUSED),
        (["locked", "ok"], (), ExitCode.LOCKED),
    ],
)
def test_the_exit_code_of_a_plan_is_a_function_of_its_hosts(
    statuses: list[str], unknowns: tuple[str, ...], code: ExitCode
) -> None:
    hosts: list[Any] = [SimpleNamespace(status=status, unknowns=unknowns) for status in statuses]

    assert exit_code(hosts) is code


def test_a_switch_is_refused_while_the_gpus_cannot_be_read(settled: Path) -> None:
    recon("-C", str(settled), "sim", "do", "h-1", "fault", "nvml")
    SimWorld.rewrite(settled / "desired/hosts/h-1.yaml", r"(?m)^coven: .*$", "coven: vision")

    ran = recon("-C", str(settled), "apply", "--yes")

    assert ran.code == ExitCode.REFUSED
    assert "REC8003" in ran.out
    assert "No changes. Every host" not in ran.out


def test_a_resident_taken_out_together_with_a_switch_is_not_foreign(settled: Path) -> None:
    file = settled / "desired/hosts/h-1.yaml"
    text = file.read_text(encoding="utf-8")
    image = "registry.example.net/embedder@sha256:" + "b" * 64
    resident = f"residents:\n  embedder: {{runtime: none, image: '{image}', memory: 2GiB}}\n"
    file.write_text(text + resident, encoding="utf-8")
    assert recon("-C", str(settled), "apply", "--yes").code == 0
    file.write_text(text.replace("coven: reasoning", "coven: vision"), encoding="utf-8")

    planned = recon("-C", str(settled), "plan")
    applied = recon("-C", str(settled), "apply", "--yes")

    assert "1 to stop" in planned.out
    assert applied.code == ExitCode.OK, applied.out + applied.err
    assert recon("-C", str(settled), "plan", "--detailed-exitcode").code == ExitCode.OK


def test_a_path_that_cannot_be_written_is_an_error_without_a_traceback(studio: Path) -> None:
    ran = recon("-C", str(studio), "plan", "--out", str(studio / "missing" / "plan.json"))

    assert ran.code == ExitCode.ERROR
    assert "REC7024" in ran.err


def test_a_host_called_json_does_not_ask_for_json(studio: Path) -> None:
    assert recon("-C", str(studio), "plan", "--host", "json").out == ""


def test_a_host_taken_out_of_git_is_not_forgotten_in_silence(settled: Path) -> None:
    recon("-C", str(settled), "render")
    (settled / "desired/hosts/h-2.yaml").unlink()

    assert "h-2 is no longer declared" in recon("-C", str(settled), "plan").out


def test_render_check_is_clean_after_render_and_shows_what_is_stale(studio: Path) -> None:
    assert recon("-C", str(studio), "render").code == 0
    assert recon("-C", str(studio), "render", "--check").code == 0
    SimWorld.rewrite(studio / "desired/covens/vision.yaml", r"stop: \{timeout: \w+", "stop: {timeout: 33s")

    ran = recon("-C", str(studio), "render", "--check")

    assert ran.code == ExitCode.REFUSED
    assert "+StopTimeout=33" in ran.out
    assert "recon render" in ran.out + ran.err


def test_every_problem_of_every_file_is_shown_at_once(studio: Path) -> None:
    SimWorld.rewrite(studio / "desired/hosts/h-1.yaml", r"coven: reasoning", "coven: reasonning")
    SimWorld.rewrite(studio / "desired/covens/vision.yaml", r"port: 8002", "prot: 8002")

    ran = recon("-C", str(studio), "validate")

    assert ran.code == ExitCode.REFUSED
    assert "desired/hosts/h-1.yaml:2:8" in ran.err
    assert "desired/covens/vision.yaml:6:5" in ran.err
    assert "reasoning" in ran.err
    assert "'port'" in ran.err


def test_a_closed_pipe_is_no_traceback(studio: Path) -> None:
    argv = [sys.executable, "-m", "reconciler", "-C", str(studio), "plan"]
    head = shutil.which("true")
    assert head

    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    process.wait()

    assert "Traceback" not in err


def test_every_command_has_help_with_an_example() -> None:
    for info in app.registered_commands:
        assert info.callback
        assert "Examples:" in (info.callback.__doc__ or ""), info.name


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    probe = (
        "import sys, reconciler.cli.app; print(sorted({'pydantic', 'jinja2', 'paramiko', 'ruamel'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)

    assert done.stdout.decode().strip() == "[]"


def test_colour_flags_that_make_no_sense_are_refused() -> None:
    assert recon("--color", "blue", "validate").code == ExitCode.USAGE
    assert common.SETTINGS.color in {"auto", "always", "never"}


def test_a_coven_that_came_up_before_has_its_time_in_the_plan(settled: Path) -> None:
    file = settled / "desired/hosts/h-1.yaml"
    for before, after in (("reasoning", "vision"), ("vision", "reasoning")):
        SimWorld.rewrite(file, rf"(?m)^coven: {before}$", f"coven: {after}")
        assert recon("-C", str(settled), "apply", "--yes").code == 0
    SimWorld.rewrite(file, r"(?m)^coven: .*$", "coven: vision")

    document = json.loads(recon("-C", str(settled), "plan", "--host", "h-1", "-o", "json").out)

    assert document["hosts"][0]["transitions"][0]["estimated_s"] > 30
    assert (
        "clients of reasoning (vllm) are without service for about "
        in document["hosts"][0]["transitions"][0]["cuts_off"]
    )


def test_on_a_terminal_one_sees_that_hosts_are_asked_and_nothing_of_it_stays(studio: Path) -> None:
    out, err = io.StringIO(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        run(["-C", str(studio), "plan"])

    assert "asking the hosts: 2 answered" in err.getvalue()
    assert err.getvalue().endswith("\r\x1b[K")
    assert recon("-C", str(studio), "plan").err == ""

"""The loader, run as a host runs it: one fixed command, everything on stdin, streamed or installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.hosts import loader
from reconciler.hosts.bundle import Bundle, agent_bundle, pack
from reconciler.hosts.wire import bundle_frame, parse_reply, request_frame
from tests.hosts.fake_sshd import ECHO_AGENT

READER = "import sys;b=sys.stdin.buffer;exec(b.read(int(b.readline())))"


def run(root: Path, *frames: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run the loader with the agent's directory moved to `root`; that is the only change to its text."""
    source = loader.SOURCE.replace(loader.AGENT_ROOT, str(root)).encode()
    assert source != loader.SOURCE.encode()
    stdin = b"%d\n%b" % (len(source), source) + b"".join(frames)
    return subprocess.run([sys.executable, "-I", "-S", "-c", READER], input=stdin, capture_output=True, timeout=60)


def ask(root: Path, bundle: Bundle, verb: str, args: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Return whether the bundle was asked for, and the reply document."""
    done = run(root, request_frame(verb, args, bundle.digest), bundle_frame(bundle.packed))
    need = b"\nRECON1-NEED " + bundle.digest.encode() + b"\n"
    was_needed = done.stdout.startswith(need)
    head, _, body = done.stdout.removeprefix(need).removeprefix(b"\n").partition(b"\n")
    assert head == b"RECON1 %d" % len(body)
    document: dict[str, Any] = json.loads(body)
    return was_needed, document


def install(root: Path, bundle: Bundle) -> Path:
    place = root / bundle.digest
    for name, text in {**bundle.files, "__main__.py": "not part of the sum\n"}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    (place / ".ok").write_text(bundle.digest + "\n")
    return place


def test_the_command_is_fixed_and_holds_no_value() -> None:
    assert loader.command(sudo=True) == f"/bin/sh -c 'exec sudo -n -- /usr/bin/python3 -I -S -c \"{READER}\"'"
    assert loader.command(sudo=False) == f"/bin/sh -c 'exec /usr/bin/python3 -I -S -c \"{READER}\"'"
    assert loader.program() == b"%d\n%b" % (len(loader.SOURCE.encode()), loader.SOURCE.encode())


def test_streamed_the_agent_runs_from_memory_and_nothing_is_written(tmp_path: Path) -> None:
    answer = ask(tmp_path, ECHO_AGENT, "observe", {"a": 1})

    reply = {
        "machine": "real",
        "verb": "observe",
        "args": {"a": 1},
        "mode": "streamed",
        "files": sorted(ECHO_AGENT.files),
    }
    assert answer == (True, {"ok": True, "reply": reply})
    assert list(tmp_path.iterdir()) == []


def test_a_request_for_a_users_units_gets_the_users_machine(tmp_path: Path) -> None:
    frames = request_frame("observe", {}, ECHO_AGENT.digest, is_users=True), bundle_frame(ECHO_AGENT.packed)

    done = run(tmp_path, *frames)

    assert parse_reply(done.stdout.rpartition(b"\n")[2], "h")["machine"] == "the user of real"


def test_streamed_the_gpu_binding_is_importable_by_its_own_name(tmp_path: Path) -> None:
    assert ask(tmp_path, ECHO_AGENT, "weights", {}) == (True, {"ok": True, "reply": {"pynvml": "the binding"}})


def test_an_installed_copy_runs_without_asking_and_writes_nothing(tmp_path: Path) -> None:
    place = install(tmp_path, ECHO_AGENT)
    before = sorted(place.rglob("*"))
    reply = {"machine": "real", "verb": "observe", "args": {}, "mode": "installed", "files": []}

    assert ask(tmp_path, ECHO_AGENT, "observe", {}) == (False, {"ok": True, "reply": reply})
    assert sorted(place.rglob("*")) == before


def test_a_copy_whose_mark_is_not_as_it_was_written_is_not_used(tmp_path: Path) -> None:
    place = install(tmp_path, ECHO_AGENT)
    for mark in ("", ECHO_AGENT.digest, ECHO_AGENT.digest[:-1] + "\n", "0" * 64 + "\n"):
        (place / ".ok").write_text(mark)
        assert ask(tmp_path, ECHO_AGENT, "observe", {})[0]


@pytest.mark.parametrize("damage", ["changed", "missing", "extra", "not finished", "not text"])
def test_an_installed_copy_that_is_not_exactly_the_one_asked_for_is_not_used(tmp_path: Path, damage: str) -> None:
    place = install(tmp_path, ECHO_AGENT)
    dispatch = place / "recon_agent" / "dispatch.py"
    match damage:
        case "changed":
            dispatch.write_text(ECHO_AGENT.files["recon_agent/dispatch.py"] + "#\n")
        case "missing":
            (place / "recon_agent" / "__init__.py").unlink()
        case "extra":
            (place / "json.py").write_text("")
        case "not finished":
            (place / ".ok").unlink()
        case _:
            dispatch.write_bytes(b"\xff\xff")
    was_needed, document = ask(tmp_path, ECHO_AGENT, "observe", {})

    assert (was_needed, document["reply"]["mode"]) == (True, "streamed")


def test_a_refusal_of_the_agent_travels_with_its_words(tmp_path: Path) -> None:
    refusal = {"code": "REC5016", "summary": "refused", "detail": "as asked", "fix": "ask again", "ok": False}

    assert ask(tmp_path, ECHO_AGENT, "refuse", {}) == (True, refusal)


def test_a_crash_of_the_agent_names_the_line(tmp_path: Path) -> None:
    refusal = {
        "code": "REC5014",
        "summary": "the agent failed on the host",
        "detail": "ValueError: no luck (<recon>/recon_agent/dispatch.py:10)",
        "fix": "report it",
        "ok": False,
    }

    assert ask(tmp_path, ECHO_AGENT, "fail", {}) == (True, refusal)


def test_another_agent_than_the_one_named_is_not_run(tmp_path: Path) -> None:
    other = pack(ECHO_AGENT.files | {"recon_agent/real.py": "raise SystemExit(3)\n"})
    done = run(tmp_path, request_frame("observe", {}, ECHO_AGENT.digest), bundle_frame(other.packed))

    assert done.returncode == 0
    assert b"is not the one that was named" in done.stdout


@pytest.mark.parametrize("digest", ["", "../../etc", "x" * 64])
def test_a_digest_that_is_none_reaches_no_file(tmp_path: Path, digest: str) -> None:
    done = run(tmp_path, request_frame("observe", {}, digest))

    assert b"not a request this loader knows" in done.stdout
    assert b"RECON1-NEED" not in done.stdout


def test_a_controller_that_goes_away_leaves_nothing_running(tmp_path: Path) -> None:
    done = run(tmp_path, request_frame("observe", {}, ECHO_AGENT.digest))

    assert done.returncode == 0
    assert b"no RECON1-BUNDLE frame" in done.stdout


def test_the_bundle_is_the_whole_agent_and_the_binding() -> None:
    agent = Path(loader.__file__).parent.parent / "agent"
    names = {"recon_agent/" + path.relative_to(agent).as_posix() for path in agent.rglob("*.py")}
    bundle = agent_bundle()

    assert set(bundle.files) == names | {"pynvml.py"}
    assert bundle is agent_bundle()
    assert pack(dict(reversed(bundle.files.items()))) == bundle


def test_the_real_agent_answers_over_the_real_loader(tmp_path: Path) -> None:
    was_needed, document = ask(tmp_path, agent_bundle(), "no-such-verb", {})

    assert was_needed
    assert (document["ok"], document["code"]) == (False, "REC5016")


def test_every_file_of_the_bundle_compiles() -> None:
    for name, text in agent_bundle().files.items():
        compile(text, name, "exec", dont_inherit=True)
    assert importlib.util.find_spec("recon_agent") is None, "the agent is data here, never a package"


def test_a_reply_of_the_loader_is_one_for_the_reader(tmp_path: Path) -> None:
    _, document = ask(tmp_path, ECHO_AGENT, "observe", {"x": "y"})

    assert parse_reply(json.dumps(document).encode(), "h") == document["reply"]

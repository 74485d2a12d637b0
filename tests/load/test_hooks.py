"""What git may say about hooks and admission, and what it gets when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.load.fleet import load_fleet
from reconciler.model.desired import Hook
from tests.load.states import IMAGE, problems, write

WRITING = "desired/covens/writing.yaml"
SERVICE = f"services:\n  one:\n    runtime: {{}}\n    image: {IMAGE}\n    memory: 10GiB\n    port: 80\n"


def coven(hooks: str, runtime: str = "comfyui") -> dict[str, str]:
    return {WRITING: SERVICE.format(runtime) + hooks}


def test_a_hook_is_a_program_or_an_http_call_with_an_end(tmp_path: Path) -> None:
    hooks = """hooks:
  before_drain: {argv: [/usr/local/bin/gateway, close, "%n $X ;"], timeout: 30s, on_timeout: abort}
  on_rollback: {http: {url: "http://127.0.0.1:9000/open", body: '{"a": 1}'}, timeout: 5s, on_timeout: continue}
"""
    read = load_fleet(write(tmp_path, coven(hooks))).covens["writing"].hooks

    program = {"argv": ("/usr/local/bin/gateway", "close", "%n $X ;"), "timeout": "30s", "on_timeout": "abort"}
    call = {"url": "http://127.0.0.1:9000/open", "body": '{"a": 1}'}
    assert read.before_drain == Hook.model_validate(program)
    assert read.on_rollback == Hook.model_validate({"http": call, "timeout": "5s", "on_timeout": "continue"})
    assert read.after_warm is None


@pytest.mark.parametrize(
    ("hook", "code", "words"),
    [
        ("drain: /usr/bin/x --close", "REC3012", "argv: [/usr/bin/x, --close], timeout: 30s"),
        ("drain: {argv: /usr/bin/x, timeout: 1s, on_timeout: abort}", "REC3012", "[/usr/bin/x]"),
        ("drain: {argv: [x], timeout: 1s, on_timeout: abort}", "REC3004", "not absolute"),
        ("drain: {argv: [/usr/../x], timeout: 1s, on_timeout: abort}", "REC3004", "'..'"),
        ("drain: {argv: [/x], on_timeout: abort}", "REC2002", "timeout: 30s"),
        ("drain: {argv: [/x], timeout: 1s}", "REC2002", "on_timeout: abort"),
        ("drain: {argv: [/x], timeout: 2h, on_timeout: abort}", "REC2012", "at most 1h"),
        ("drain: {argv: [/x], timeout: 0s, on_timeout: abort}", "REC2010", "more than 0"),
        ("drain: {argv: [/x], timeout: 1s, on_timeout: force}", "REC2034", "abort, continue"),
        ("drain: {timeout: 1s, on_timeout: abort}", "REC2044", "neither"),
        ("drain: {argv: [/x], http: {url: 'http://a/'}, timeout: 1s, on_timeout: abort}", "REC2044", "both"),
        ("drain: {http: {url: 'ftp://a/'}, timeout: 1s, on_timeout: abort}", "REC2044", "http://"),
        ("drain: {http: {url: 'http://u:p@a/'}, timeout: 1s, on_timeout: abort}", "REC2044", "password"),
        ("drain: {http: {url: 'http://169.254.169.254/'}, timeout: 1s, on_timeout: abort}", "REC2044", "link-local"),
        ("on_rollback: {argv: [/x], timeout: 1s, on_timeout: abort}", "REC2044", "on_timeout: continue"),
        ("after_start: {argv: [/x], timeout: 1s, on_timeout: abort}", "REC2001", "did you mean 'after_"),
        ('drain: {argv: [/x, "a\\nb"], timeout: 1s, on_timeout: abort}', "REC3005", "one line"),
    ],
)
def test_a_bad_hook_is_refused_with_its_code_and_hint(tmp_path: Path, hook: str, code: str, words: str) -> None:
    found = problems(write(tmp_path, coven(f"hooks:\n  {hook}\n")))

    told = [problem for problem in found if problem.code == code]
    assert told, [str(problem) for problem in found]
    assert words in f"{told[0].detail} {told[0].fix}"
    assert str(told[0].where).startswith(f"{WRITING}:8:")


@pytest.mark.parametrize(
    ("extra", "runtime", "place"),
    [
        ("drain: {admission: pause}\n", "comfyui", f"{WRITING}:7:20"),
        ("    drain: {admission: pause}\n", "comfyui", f"{WRITING}:7:24"),
    ],
)
def test_a_pause_that_a_runtime_does_not_have_is_refused(tmp_path: Path, extra: str, runtime: str, place: str) -> None:
    found = problems(write(tmp_path, coven(extra, runtime)))

    assert [(problem.code, str(problem.where)) for problem in found] == [("REC2043", place)]


def test_a_firewall_needs_a_port(tmp_path: Path) -> None:
    text = SERVICE.format("none").replace("    port: 80\n", "") + "drain: {admission: firewall}\n"

    assert [problem.code for problem in problems(write(tmp_path, {WRITING: text}))] == ["REC2043"]
    assert problems(write(tmp_path, coven("drain: {admission: firewall}\n"))) == ()

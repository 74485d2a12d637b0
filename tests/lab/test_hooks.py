"""Hooks that misbehave, as real programs under a real systemd: each ends in time, and nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.lab.machines import Machine
from tests.lab.agent_on_host import PLACE, agent_on, play

PROGRAM = PLACE + "/program"

DRIVER = """
from agent import hooks
hook = {"event": "before_drain", "argv": words[1:], "call": None, "timeout_s": float(words[0]), "on_timeout": "abort"}
group = {"coven": "reasoning", "hooks": [hook], "members": [{"unit": "u"}]}
move = {"slot": "all", "kind": "switch", "old": group, "new": None, "restart": []}
reason = ""
try:
    hooks.before_stop(run, "before_drain", [move])
except HaltError as halt:
    reason = halt.reason
notes = [text for status, text in quiet.said if status == "progress"]
found = {"reason": reason, "notes": notes, "logs": run.logs}
"""


@pytest.fixture
def host(machine: Machine) -> Iterator[Machine]:
    with agent_on(machine):
        yield machine


def call(host: Machine, text: str, *, timeout: float = 2.0) -> dict[str, Any]:
    script = f"#!/bin/sh\n{text}\n".encode()
    host.run(["install", "-m", "0755", "/dev/stdin", PROGRAM], stdin=script)
    found: dict[str, Any] = play(host, DRIVER, str(timeout), PROGRAM, "close", "$HOME ; %n")
    return found


def left(host: Machine) -> str:
    """Return what is left of a hook: its scope, and the program that it may have left behind."""
    scope = host.run(["systemctl", "is-active", "recon-hook.scope"], check=False).stdout.decode().strip()
    asleep = host.run(["pgrep", "-f", "sleep 98765"], check=False).stdout.decode().strip()
    return f"{scope} {asleep}".strip()


def test_a_hook_gets_its_words_whole_and_its_variables_and_no_others(host: Machine) -> None:
    said = call(host, 'printf "%s|" "$@"; echo; env | sort | grep -v "^_=\\|^PWD=\\|^INVOCATION_ID="')

    assert said["reason"] == ""
    assert said["notes"] == [
        "before_drain says: close|$HOME ; %n|",
        *(
            f"before_drain says: {line}"
            for line in (
                "HOME=/root",
                "LC_ALL=C.UTF-8",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "RECON_COVEN=reasoning",
                "RECON_HOOK=before_drain",
                "RECON_HOST=h",
                "RECON_SLOT=all",
                "RECON_TXID=t",
            )
        ),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sleep 98765", "ended by signal 15"),
        ('trap "" TERM; sleep 98765 & while :; do sleep 1; done', "ended by signal 9"),
    ],
)
def test_a_hook_that_hangs_is_ended_also_when_it_is_deaf(host: Machine, text: str, why: str) -> None:
    said = call(host, text)

    assert said["reason"].startswith("hook before_drain of reasoning failed after ")
    assert said["reason"].endswith(why)
    assert left(host) == "inactive"


def test_a_daemon_that_a_hook_leaves_behind_ends_with_it(host: Machine) -> None:
    said = call(host, "setsid nohup sleep 98765 >/dev/null 2>&1 </dev/null &\nexit 0", timeout=30.0)

    assert (said["reason"], said["notes"]) == ("", ["before_drain left processes behind; they were ended"])
    assert left(host) == "inactive"


def test_a_gigabyte_of_output_is_read_and_only_its_beginning_kept(host: Machine) -> None:
    said = call(host, "head -c 1073741824 /dev/zero | tr '\\0' 'x'\necho\nexit 3", timeout=60.0)

    assert said["reason"].endswith("exit status 3")
    assert sum(len(line) for lines in said["logs"].values() for line in lines) <= 64 << 10


def test_a_hook_that_ends_well_after_its_time_has_failed(host: Machine) -> None:
    said = call(host, 'trap "exit 0" TERM; sleep 98765 & wait')

    assert said["reason"].endswith("ended well, but too late")
    assert left(host) == "inactive"


def test_a_program_that_is_not_there_or_not_roots_is_not_run(host: Machine) -> None:
    host.run(["install", "-m", "0777", "/dev/null", PROGRAM])

    others = play(host, DRIVER, "2", PROGRAM)
    nobody = play(host, DRIVER, "2", "/usr/bin/nobody-has-this")

    assert others["reason"].endswith(f"{PROGRAM} can be changed by others than root")
    assert nobody["reason"].endswith("/usr/bin/nobody-has-this is not there")

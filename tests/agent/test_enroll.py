"""Making a host recon's: what is refused before anything changes, what is made, in which order, and done again."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import dispatch, enroll, places
from reconciler.agent.machine import Completed, Stat
from reconciler.agent.wire import RequestError
from tests.agent.fakehost import FakeHost

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFXkceiiL/U652d2dHK+sleAlx2eVwrktSWx48kLwGkA recon studio"
RULE = "recon ALL=(root) NOPASSWD: /usr/bin/python3"
RULES = f"# Written by recon enroll: recon's agent runs as root through this one rule.\n{RULE}\n"
CONTEXT: dict[str, Any] = {"digest": "d" * 64, "mode": "streamed", "bundle": {"recon_agent/__init__.py": ""}}
TOOLS = {f"/usr/sbin/{tool}": "" for tool in ("getent", "useradd", "runuser", "visudo", "sudo")}
GETENT = ("getent", "passwd", "recon")
USERADD = ("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", "--comment", "recon", "recon")
ADD_KEY = ("runuser", "-u", "recon", "--", "/usr/bin/python3", "-I", "-S", "-c", enroll.ADD_KEY)
VISUDO = ("visudo", "-c", "-q", "-f", "/run/recon/sudoers-recon")
THERE = Completed(0, b"recon:x:1000:1000::/home/recon:/bin/sh\n", b"")
FINE = Completed(0, b"", b"")


class Host(FakeHost):
    """A dictionary on which an agent can be installed."""

    def remove_tree(self, path: str) -> None:
        raise AssertionError(path)

    def stat(self, path: str) -> Stat | None:
        return super().stat(path)


def fresh(files: dict[str, str] | None = None, **programs: Completed) -> Host:
    answers = {
        GETENT: programs.get("getent", Completed(2, b"", b"")),
        USERADD: programs.get("useradd", FINE),
        ADD_KEY: programs.get("key", Completed(0, b"added\n", b"")),
        VISUDO: programs.get("visudo", FINE),
    }
    return Host({**TOOLS, **(files or {})}, programs=answers)


def asked(host: Host, context: dict[str, Any] = CONTEXT, **over: Any) -> dict[str, Any]:
    return dispatch.handle(host, "enroll", {"user": "recon", "key": KEY, "check": False, **over}, context)


def test_a_bare_host_gets_the_agent_the_account_the_key_and_the_one_rule_in_that_order() -> None:
    host = fresh()

    reply = asked(host)

    assert reply == {
        "done": [
            "the agent dddddddddddd",
            "the account recon",
            "the key of this computer for recon",
            f"/etc/sudoers.d/recon: {RULE}",
        ],
        "kept": [],
        "problem": None,
    }
    assert host.ran == [GETENT, USERADD, ADD_KEY, VISUDO]
    assert host.files["/etc/sudoers.d/recon"] == RULES.encode()
    assert "/run/recon/sudoers-recon" not in host.files
    assert host.files[f"{places.AGENTS}/{'d' * 64}/.ok"] == b"d" * 64 + b"\n"
    assert host.read_link(places.CURRENT_AGENT) == f"{places.AGENTS}/{'d' * 64}"


def test_asked_again_everything_is_there_and_nothing_is_made() -> None:
    host = fresh({"/etc/sudoers.d/recon": RULES}, getent=THERE, key=Completed(0, b"kept\n", b""))
    asked(host)
    before, host.ran = dict(host.files), []

    reply = asked(host, {**CONTEXT, "mode": "installed", "bundle": None})

    assert reply["done"] == []
    assert len(reply["kept"]) == 4
    assert host.files == before
    assert host.ran == [GETENT, ADD_KEY]


def test_with_check_nothing_changes_and_what_would_be_made_is_told() -> None:
    host = fresh({"/etc/sudoers.d/recon": RULES})

    reply = asked(host, check=True)

    assert reply["done"] == [
        "the agent dddddddddddd",
        "the account recon",
        "the key of this computer for recon, unless it is there",
    ]
    assert reply["kept"] == [f"/etc/sudoers.d/recon: {RULE}"]
    assert host.ran == [GETENT]
    assert set(host.files) == {*TOOLS, "/etc/sudoers.d/recon"}


def test_without_a_user_only_the_agent_is_installed() -> None:
    host = fresh()

    reply = asked(host, user=None, key=None)

    assert (reply["done"], host.ran) == (["the agent dddddddddddd"], [])


def test_a_rule_that_visudo_does_not_take_never_reaches_its_place() -> None:
    host = fresh(visudo=Completed(1, b"", b"parse error"))

    reply = asked(host)

    assert reply["problem"]["code"] == "REC7426"
    assert reply["problem"]["detail"] == "visudo: parse error"
    assert reply["done"][-1] == "the key of this computer for recon"
    assert [path for path in host.files if "sudoers" in path] == []


def test_what_was_done_before_a_failure_is_told() -> None:
    reply = asked(fresh(useradd=Completed(1, b"", b"useradd: cannot lock /etc/passwd")))

    assert reply["done"] == ["the agent dddddddddddd"]
    assert reply["problem"]["detail"] == "useradd: useradd: cannot lock /etc/passwd"


@pytest.mark.parametrize(
    ("files", "programs", "over", "code", "said"),
    [
        ({}, {}, {"user": "root"}, "REC7424", "no account can be made"),
        ({}, {}, {"user": "a b"}, "REC7424", "no account can be made"),
        ({}, {}, {"user": "recon.x"}, "REC7424", "no account can be made"),
        ({}, {}, {"user": None}, "REC7424", "no account can be made"),
        ({}, {}, {"key": "ssh-ed25519 AAAA\nroot ALL"}, "REC7424", "no line of a public key"),
        ({}, {}, {"key": 'command="x" ssh-ed25519 AAAA'}, "REC7424", "no line of a public key"),
        ({}, {"getent": Completed(0, b"recon:x:0:0::/:/bin/sh\n", b"")}, {}, "REC7424", "no account can be made"),
        ({}, {"getent": Completed(0, b"recon:x:9:9::/:/usr/sbin/nologin\n", b"")}, {}, "REC7424", "cannot log in"),
        ({"/etc/sudoers.d/recon": "recon ALL=(ALL) ALL\n"}, {}, {}, "REC7425", "says something else"),
        ({"/etc/sudoers.d/recon": f"{RULE}\nada ALL=(ALL) ALL\n"}, {}, {}, "REC7425", "says something else"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_changes(
    files: dict[str, str], programs: dict[str, Completed], over: dict[str, Any], code: str, said: str
) -> None:
    host = fresh(files, **programs)
    before = dict(host.files)

    with pytest.raises(RequestError) as refused:
        asked(host, **over)

    assert (refused.value.code, said in refused.value.summary) == (code, True)
    assert host.files == before
    assert set(host.ran) <= {GETENT}


def test_a_host_without_sudo_is_refused_with_what_is_missing() -> None:
    host = fresh()
    del host.files["/usr/sbin/sudo"]
    del host.files["/usr/sbin/visudo"]

    with pytest.raises(RequestError) as refused:
        asked(host)

    assert refused.value.detail == "visudo, sudo"


def test_the_agent_that_the_watchdog_runs_is_left_to_the_next_apply() -> None:
    host = fresh()
    host.symlink("/var/lib/recon/agent/older", places.CURRENT_AGENT)

    asked(host)

    assert host.read_link(places.CURRENT_AGENT) == "/var/lib/recon/agent/older"

"""SSH against a real server on loopback: the way there, the key, the login, the request, and every way it fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from reconciler.apply.follow import TRAVEL_S, WAIT_S
from reconciler.apply.run import HAND_OVER_S
from reconciler.errors import HostError, UnreachableError
from reconciler.hosts import loader
from reconciler.hosts.known_hosts import KnownHosts
from reconciler.hosts.ssh import KEEPALIVE_S, SshRun, SshTransport, Target
from reconciler.hosts.ssh_errors import Place
from reconciler.hosts.wire import bundle_frame, request_frame
from tests.hosts import fake_sshd
from tests.hosts.fake_sshd import ECHO_AGENT, Script, Sshd

FIXED = (
    "/bin/sh -c 'exec sudo -n -- /usr/bin/python3 -I -S -c "
    '"import sys;b=sys.stdin.buffer;exec(b.read(int(b.readline())))"\''
)


REPLY = b'\nRECON1 36\n{"ok": true, "reply": {"fine":true}}'


@dataclass
class Bed:
    sshd: Sshd
    target: Target
    run: SshRun

    def with_target(self, **over: Any) -> SshTransport:
        return self.run.transport(replace(self.target, **over))


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    allowed = fake_sshd.a_key(tmp_path / "key")
    with fake_sshd.running(allowed) as sshd:
        place = Place("spark-1", "recon", "127.0.0.1", sshd.port)
        run = SshRun(ECHO_AGENT, known_hosts=lambda: KnownHosts(""))
        yield Bed(sshd, Target(place, host_key=sshd.pinned, key=tmp_path / "key"), run)
        run.close()


def problem_of(
    transport: SshTransport,
    kind: type[HostError],
    *,
    deadline_s: float = 20.0,
    verb: str = "observe",
    args: dict[str, Any] | None = None,
) -> tuple[str, str, str]:
    with pytest.raises(HostError) as caught:
        transport.ask(verb, args or {}, deadline_s=deadline_s)
    assert type(caught.value) is kind
    problem = caught.value.problems[0]
    return problem.code, problem.detail, problem.fix


def test_one_request_is_one_exec_of_the_fixed_command_and_brings_the_agent_along(bed: Bed) -> None:
    transport = bed.run.transport(bed.target)
    reply = transport.ask("observe", {"text": "ümlaut; $(x)"}, deadline_s=20)
    transport.close()

    assert reply == {
        "machine": "real",
        "verb": "observe",
        "args": {"text": "ümlaut; $(x)"},
        "mode": "streamed",
        "files": sorted(ECHO_AGENT.files),
    }
    assert bed.sshd.commands == [FIXED]
    assert bed.sshd.logins == ["recon"]


def test_a_second_request_uses_the_connection_that_is_open(bed: Bed) -> None:
    transport = bed.run.transport(bed.target)
    transport.ask("observe", {}, deadline_s=20)
    transport.ask("follow", {}, deadline_s=20)
    transport.close()

    assert (bed.sshd.connections, len(bed.sshd.commands)) == (1, 2)


def test_a_transport_that_was_closed_connects_anew(bed: Bed) -> None:
    transport = bed.run.transport(bed.target)
    transport.ask("observe", {}, deadline_s=20)
    transport.close()
    transport.ask("observe", {}, deadline_s=20)
    transport.close()

    assert bed.sshd.connections == 2


def test_root_needs_no_sudo(bed: Bed) -> None:
    bed.with_target(place=replace(bed.target.place, user="root")).ask("observe", {}, deadline_s=20)

    assert bed.sshd.commands == [FIXED.replace("sudo -n -- ", "")]


def test_the_units_of_a_user_are_asked_for_without_sudo(bed: Bed) -> None:
    reply = bed.with_target(is_users=True).ask("observe", {}, deadline_s=20)

    assert reply["machine"] == "the user of real"
    assert bed.sshd.commands == [FIXED.replace("sudo -n -- ", "")]


def test_a_host_nobody_vouched_for_is_refused_with_its_fingerprint_and_the_line_to_pin_it(bed: Bed) -> None:
    code, detail, fix = problem_of(bed.with_target(host_key=None), UnreachableError)

    assert code == "REC6001"
    assert bed.sshd.host_key.fingerprint in detail
    assert fix.endswith(f"put this in desired/hosts/spark-1.yaml: host_key: {bed.sshd.pinned}")
    assert bed.sshd.logins == []


def test_a_host_with_another_key_than_the_pinned_one_is_refused(bed: Bed) -> None:
    other = paramiko.ECDSAKey.generate()
    pinned = f"{other.get_name()} {other.get_base64()}"
    code, detail, _ = problem_of(bed.with_target(host_key=pinned), UnreachableError)

    assert code == "REC6002"
    assert bed.sshd.host_key.fingerprint in detail
    assert other.fingerprint in detail
    assert bed.sshd.logins == []


def test_a_pinned_key_that_is_none_is_refused_before_connecting_further(bed: Bed) -> None:
    code, _, fix = problem_of(bed.with_target(host_key="ssh-ed25519 AAAA"), UnreachableError)

    assert (code, fix) == ("REC6001", f"take the line of: ssh-keyscan -p {bed.sshd.port} 127.0.0.1")
    assert bed.sshd.logins == []


def test_known_hosts_is_enough_and_is_read_once_for_all_hosts(bed: Bed) -> None:
    reads: list[int] = []

    def read() -> KnownHosts:
        reads.append(1)
        return KnownHosts(f"[127.0.0.1]:{bed.sshd.port} {bed.sshd.pinned}\n")

    run = SshRun(ECHO_AGENT, known_hosts=read)
    for _ in range(3):
        transport = run.transport(replace(bed.target, host_key=None))
        transport.ask("observe", {}, deadline_s=20)
        transport.close()

    assert reads == [1]


def test_a_revoked_key_is_refused(bed: Bed) -> None:
    line = f"[127.0.0.1]:{bed.sshd.port} {bed.sshd.pinned}\n"
    run = SshRun(ECHO_AGENT, known_hosts=lambda: KnownHosts(line + "@revoked " + line))
    code, _, _ = problem_of(run.transport(replace(bed.target, host_key=None)), UnreachableError)

    assert code == "REC6003"


def test_a_revoked_key_is_refused_also_where_git_pins_it(bed: Bed) -> None:
    run = SshRun(ECHO_AGENT, known_hosts=lambda: KnownHosts(f"@revoked * {bed.sshd.pinned}\n"))
    code, _, _ = problem_of(run.transport(bed.target), UnreachableError)

    assert (code, bed.sshd.logins) == ("REC6003", [])


def test_a_refused_login_is_tried_once_and_says_which_key(bed: Bed, tmp_path: Path) -> None:
    fake_sshd.a_key(tmp_path / "other")
    code, detail, fix = problem_of(bed.with_target(key=tmp_path / "other"), UnreachableError)

    assert code == "REC6004"
    assert str(tmp_path / "other") in detail
    assert fix == f"check with: ssh -p {bed.sshd.port} recon@127.0.0.1 true"
    assert (bed.sshd.connections, bed.sshd.logins) == (1, ["recon"])


def test_a_key_with_a_passphrase_and_no_agent_names_ssh_add(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    fake_sshd.a_key(tmp_path / "locked", password="open sesame")
    code, _, fix = problem_of(bed.with_target(key=tmp_path / "locked"), UnreachableError)

    assert (code, fix) == ("REC6004", f"ssh-add {tmp_path / 'locked'}")


def test_a_key_file_that_is_none_is_said(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n")
    code, detail, _ = problem_of(bed.with_target(key=tmp_path / "text"), UnreachableError)

    assert code == "REC6004"
    assert "the key file cannot be used" in detail


def test_a_login_that_is_cut_is_no_refusal_and_is_tried_again(bed: Bed) -> None:
    bed.sshd.drop_logins = 1
    transport = bed.with_target()
    reply = transport.ask("observe", {}, deadline_s=20)
    transport.close()

    assert (reply["verb"], bed.sshd.connections) == ("observe", 2)


def test_a_host_that_always_cuts_the_login_is_not_called_one_that_refuses_the_key(bed: Bed) -> None:
    bed.sshd.drop_logins = 1 << 20
    code, detail, _ = problem_of(bed.with_target(), UnreachableError)

    assert code == "REC6007"
    assert "the login was cut off" in detail
    assert bed.sshd.connections == 3


def test_connections_that_are_dropped_early_are_tried_again(tmp_path: Path) -> None:
    allowed = fake_sshd.a_key(tmp_path / "key")
    with fake_sshd.running(allowed, drop_first=2) as sshd:
        target = Target(Place("spark-1", "recon", "127.0.0.1", sshd.port), sshd.pinned, tmp_path / "key")
        transport = SshRun(ECHO_AGENT).transport(target)
        reply = transport.ask("observe", {}, deadline_s=20)
        transport.close()

    assert (reply["verb"], sshd.connections) == ("observe", 3)


def test_a_port_where_nobody_listens_is_refused_with_the_time_it_took(bed: Bed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    code, detail, _ = problem_of(bed.with_target(place=replace(bed.target.place, port=port)), UnreachableError)

    assert code == "REC6007"
    assert detail.startswith(f"spark-1 (recon@127.0.0.1, port {port}): Connection refused, after ")


def test_a_port_that_never_speaks_ends_at_the_deadline(bed: Bed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = replace(bed.target.place, port=listener.getsockname()[1])
        code, detail, _ = problem_of(bed.with_target(place=place), UnreachableError, deadline_s=0.3)

    assert code == "REC6006"
    assert "the handshake took longer than allowed" in detail


def test_a_name_that_does_not_resolve_says_so(bed: Bed) -> None:
    place = replace(bed.target.place, address="no-such-host.invalid")
    code, _, fix = problem_of(bed.with_target(place=place), UnreachableError)

    assert (code, fix) == ("REC6005", "check `address:` of the host and the resolver of this computer")


def test_a_host_that_hangs_ends_at_the_deadline_with_what_was_waited_for(bed: Bed) -> None:
    bed.sshd.script = Script(hang=True)
    code, detail, _ = problem_of(bed.run.transport(bed.target), UnreachableError, deadline_s=1.0)

    assert code == "REC6006"
    assert "waiting for the reply took longer than allowed" in detail


def test_a_connection_lost_in_the_middle_says_that_the_outcome_is_not_known(bed: Bed) -> None:
    bed.sshd.script = Script(drop=True)
    code, detail, fix = problem_of(bed.run.transport(bed.target), UnreachableError)

    assert (code, fix) == ("REC6008", "recon status --host spark-1")
    assert detail.endswith("what the host did is not known")


@pytest.mark.parametrize(
    ("stderr", "status", "code"),
    [
        (b"sudo: a password is required\n", 1, "REC6009"),
        (b"sudo: sorry, you must have a tty to run sudo\n", 1, "REC6009"),
        (b"recon is not in the sudoers file.\n", 1, "REC6009"),
        (b"/bin/sh: 1: exec: sudo: not found\n", 127, "REC6009"),
        (b"/bin/sh: 1: exec: /usr/bin/python3: not found\n", 127, "REC6010"),
        (b"sudo: /usr/bin/python3: command not found\n", 1, "REC6010"),
        (b"Welcome!\nSorry, user recon may not run sudo on spark-1.\n", 1, "REC6009"),
        (b"Sorry, user recon is not allowed to execute '/usr/bin/python3 -I' as root on spark-1.\n", 1, "REC6009"),
        (b"-bash: line 1: exec: sudo: command not found\n", 127, "REC6009"),
        (b"zsh:1: command not found: sudo\n", 127, "REC6009"),
        (b"-bash: /usr/bin/sudo: Permission denied\n", 126, "REC6009"),
        (b"bash: line 1: /usr/bin/python3: No such file or directory\n", 127, "REC6010"),
        (b"Traceback (most recent call last)\n", 1, "REC5005"),
        (b"FileNotFoundError: [Errno 2] No such file or directory: '/usr/bin/python3'\n", 1, "REC5005"),
        (b"OSError: visudo says sudo: x: Permission denied\n", 1, "REC5005"),
        (b"RuntimeError: this user is not allowed to do that\n", 1, "REC5005"),
    ],
)
def test_a_command_that_ends_early_is_told_apart_by_what_it_says(
    bed: Bed, stderr: bytes, status: int, code: str
) -> None:
    bed.sshd.script = Script(stderr=stderr, status=status)
    found, detail, _ = problem_of(bed.run.transport(bed.target), HostError)

    assert found == code
    assert ascii(stderr.decode().strip()) in detail


def test_a_login_that_prints_before_the_reply_does_no_harm(bed: Bed) -> None:
    bed.sshd.script = Script(output=b"Welcome!\r\nno line end" + REPLY)

    assert bed.run.transport(bed.target).ask("observe", {}, deadline_s=20) == {"fine": True}


def test_a_login_that_prints_and_never_replies_is_shown_escaped(bed: Bed) -> None:
    bed.sshd.script = Script(output=b"\x1b]0;owned\x07This account is disabled.\n")
    code, detail, _ = problem_of(bed.run.transport(bed.target), HostError)

    assert code == "REC5008"
    assert r"'\x1b]0;owned\x07This account is disabled.\n'" in detail


def test_more_than_can_be_taken_is_cut_before_it_is_read(bed: Bed) -> None:
    bed.sshd.script = Script(output=b"RECON1 104857600\n" + b"x" * 4096)

    assert problem_of(bed.run.transport(bed.target), HostError)[0] == "REC5006"


def test_a_flood_on_stderr_does_not_stop_the_reply(bed: Bed) -> None:
    bed.sshd.script = Script(output=REPLY, stderr=b"e" * (6 << 20))

    assert bed.run.transport(bed.target).ask("observe", {}, deadline_s=30) == {"fine": True}


def test_closing_from_another_thread_ends_a_request_that_waits(bed: Bed) -> None:
    bed.sshd.script = Script(hang=True)
    transport = bed.run.transport(bed.target)
    codes: list[str] = []
    asking = threading.Thread(target=lambda: codes.append(problem_of(transport, UnreachableError)[0]))
    asking.start()
    while not bed.sshd.commands:
        asking.join(0.01)
    transport.close()
    asking.join(10)

    assert codes == ["REC6008"]


def test_hosts_behind_one_jump_host_share_one_connection_to_it(bed: Bed, tmp_path: Path) -> None:
    known = KnownHosts(f"[127.0.0.1]:{bed.sshd.port} {bed.sshd.pinned}\n")
    with fake_sshd.running(paramiko.PKey.from_path(tmp_path / "key")) as inner:
        run = SshRun(ECHO_AGENT, known_hosts=lambda: known)
        jump = Target(
            Place("the jump host of spark-2", "gate", "127.0.0.1", bed.sshd.port), None, tmp_path / "key", is_jump=True
        )
        place = Place("spark-2", "recon", "127.0.0.1", inner.port)
        target = Target(place, inner.pinned, tmp_path / "key", jump=jump)
        first, second = run.transport(target), run.transport(target)
        replies = [transport.ask("observe", {}, deadline_s=20)["verb"] for transport in (first, second)]
        run.close()

    assert replies == ["observe", "observe"]
    assert (bed.sshd.connections, bed.sshd.logins, bed.sshd.commands) == (1, ["gate"], [])
    assert bed.sshd.forwarded == [("127.0.0.1", inner.port)] * 2


def test_the_key_of_a_jump_host_is_checked_too(bed: Bed) -> None:
    jump = replace(bed.target, host_key=None, is_jump=True)
    code, _, fix = problem_of(bed.with_target(jump=jump), UnreachableError)

    assert (code, bed.sshd.logins) == ("REC6001", [])
    assert fix.endswith("then put it in known_hosts")


def sent_bytes(verb: str, args: dict[str, Any]) -> tuple[int, int]:
    """Return how long the loader is on the wire, and all that is sent up to the host's answer for the agent."""
    head = len(loader.program())
    return head, head + len(request_frame(verb, args, ECHO_AGENT.digest))


def test_a_request_that_is_cut_anywhere_is_done_not_at_all_and_its_outcome_is_unknown(bed: Bed, tmp_path: Path) -> None:
    """There is no half-typed command: what runs on the host runs a whole request or none."""
    path = tmp_path / "done"
    args = {"path": str(path)}
    head, whole = sent_bytes("note", args)
    bundle = len(bundle_frame(ECHO_AGENT.packed))
    cuts = {1, 3, head // 2, head - 40, head - 1, head, head + 1, head + 9, (head + whole) // 2, whole - 1, whole}
    cuts |= {whole + 1, whole + bundle // 2, whole + bundle - 1}
    for cut in sorted(cuts):
        bed.sshd.script = Script(cut_in=cut)
        code, _, fix = problem_of(bed.run.transport(bed.target), UnreachableError, verb="note", args=args)
        assert (code, fix) == ("REC6008", "recon status --host spark-1"), cut
    time.sleep(0.5)
    assert not path.exists()

    bed.sshd.script = Script(cut_in=whole + bundle + 1)
    with suppress(HostError):
        bed.run.transport(bed.target).ask("note", args, deadline_s=20)
    assert path.read_text() == "done\n"


def test_an_answer_that_is_cut_anywhere_is_an_unknown_outcome_and_never_half_an_answer(bed: Bed) -> None:
    whole = len(b"\nRECON1-NEED " + ECHO_AGENT.digest.encode() + b"\n")
    for cut in (1, 2, whole // 2, whole - 1, whole, whole + 1, whole + 8, whole + 20, whole + 60):
        bed.sshd.script = Script(cut_out=cut)
        code, _, _ = problem_of(bed.run.transport(bed.target), UnreachableError)
        assert code == "REC6008", cut


def test_a_connection_that_nobody_answers_on_is_ended_by_the_system_within_45_seconds(bed: Bed) -> None:
    transport = bed.run.transport(bed.target)
    transport.ask("observe", {}, deadline_s=20)
    connection = transport._connection
    assert connection is not None
    sock = connection.sock
    assert isinstance(sock, socket.socket)
    unanswered_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
    transport.close()

    assert KEEPALIVE_S + unanswered_s <= 45
    assert HAND_OVER_S <= 45
    assert WAIT_S + TRAVEL_S <= 45


def test_a_user_who_may_not_become_root_can_look_and_is_remembered(bed: Bed) -> None:
    bed.sshd.script = Script(deny_sudo=True)
    transport = bed.run.transport(bed.target)
    first = transport.ask("observe", {}, deadline_s=20)
    second = transport.ask("survey", {}, deadline_s=20)
    transport.close()

    assert (first["verb"], second["verb"]) == ("observe", "survey")
    assert bed.sshd.commands == [FIXED, FIXED.replace("sudo -n -- ", ""), FIXED.replace("sudo -n -- ", "")]


@pytest.mark.parametrize("verb", ["apply", "enroll", "clear", "follow"])
def test_who_may_not_become_root_changes_nothing(bed: Bed, verb: str) -> None:
    bed.sshd.script = Script(deny_sudo=True)
    code, _, fix = problem_of(bed.with_target(), HostError, verb=verb)

    assert code == "REC6009"
    assert "NOPASSWD: /usr/bin/python3" in fix
    assert bed.sshd.commands == [FIXED]


def test_a_key_is_shown_without_logging_in(bed: Bed) -> None:
    target = replace(bed.target, host_key=None)

    assert str(bed.run.shown_key(target)) == bed.sshd.pinned
    assert bed.run.shown_key(target, kind="ssh-ed25519") is None
    assert bed.run.shown_key(target, kind="no-such-kind") is None
    assert (bed.sshd.logins, bed.sshd.commands) == ([], [])


def test_the_key_of_a_host_that_is_not_there_is_an_error_that_says_so(bed: Bed) -> None:
    target = replace(bed.target, place=replace(bed.target.place, port=1))
    with pytest.raises(UnreachableError) as caught:
        bed.run.shown_key(target)

    assert caught.value.problems[0].code == "REC6007"


def test_the_public_half_is_that_of_the_key_that_logs_in(bed: Bed, tmp_path: Path) -> None:
    private = paramiko.PKey.from_path(tmp_path / "key")

    assert bed.run.public_key(bed.target).blob == private.asbytes()

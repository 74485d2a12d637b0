"""From desired state to a way to a host: whose key, which address, through which jump host."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import RefusedError, Where
from reconciler.hosts.connect import connector, key_file, split_jump, target_of
from reconciler.hosts.ssh import SshTransport, Target
from reconciler.hosts.ssh_errors import Place
from reconciler.model.desired import Fleet, Policy, Scope, Ssh
from tests.builders import a_host


@pytest.mark.parametrize(
    ("jump", "parts"),
    [
        ("gate.example.net", (None, "gate.example.net", 22)),
        ("ops@gate.example.net", ("ops", "gate.example.net", 22)),
        ("ops@192.0.2.1:2222", ("ops", "192.0.2.1", 2222)),
        ("ops@2001:db8::1", ("ops", "2001:db8::1", 22)),
    ],
)
def test_a_jump_host_is_user_address_and_port(jump: str, parts: tuple[str | None, str, int]) -> None:
    assert split_jump(jump) == parts


@pytest.mark.parametrize(("scope", "is_users"), [("system", False), ("user", True)])
def test_a_target_says_whose_units_are_meant(tmp_path: Path, scope: Scope, is_users: bool) -> None:
    assert target_of(a_host(scope=scope), tmp_path).is_users is is_users


def test_a_target_has_the_pinned_key_the_users_key_and_the_jump_host(tmp_path: Path) -> None:
    key = tmp_path / "keys" / "id"
    key.parent.mkdir()
    key.touch(0o600)
    ssh = Ssh(user="recon", key="keys/id", port=2222, jump="gate.example.net")

    assert target_of(a_host(ssh=ssh, host_key="ssh-ed25519 AAAA"), tmp_path) == Target(
        Place("spark-1", "recon", "192.0.2.11", 2222),
        host_key="ssh-ed25519 AAAA",
        key=key,
        jump=Target(
            Place("the jump host of spark-1", "recon", "gate.example.net", 22), host_key=None, key=key, is_jump=True
        ),
    )


def test_a_key_in_the_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "id").touch(0o600)

    assert key_file("~/id", Path("/srv/state"), "spark-1") == tmp_path / "id"


def test_a_missing_key_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        key_file("id", tmp_path, "spark-1")

    problem = caught.value.problems[0]
    assert (problem.code, problem.detail) == ("REC7023", f"{tmp_path}/id: No such file or directory")
    assert problem.where == Where("spark-1:ssh.key")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    (tmp_path / "id").touch()
    (tmp_path / "id").chmod(mode)
    with pytest.raises(RefusedError) as caught:
        key_file("id", tmp_path, "spark-1")

    problem = caught.value.problems[0]
    assert (problem.code, problem.fix) == ("REC7023", f"chmod 600 {tmp_path}/id")


def test_a_fleet_over_ssh_gets_transports_that_have_not_connected_yet(tmp_path: Path) -> None:
    fleet = Fleet(name="studio", transport="ssh", policy=Policy(), covens={}, hosts={})
    connect = connector(fleet, tmp_path)

    assert isinstance(connect(a_host()), SshTransport)
    connect.close()

"""What a person asks for when a machine is to become a host, looked at before a connection is made.

Must not: ask anybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.errors import Problem, RefusedError, UsageError
from reconciler.load import host_file
from reconciler.model.desired import Defaults, Fleet, Host, MemorySpec, Scope, Slot, Spiral, Ssh
from reconciler.model.survey import Check

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; None leaves it to the fleet."""

    address: str
    name: str
    user: str | None = None
    ssh_user: str = "root"
    port: int | None = None
    jump: str | None = None
    key: str | None = None
    host_key: str | None = None
    check: bool = False
    scope: Scope = "system"
    share: str | None = None


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told and asked while it goes on.

    Attributes:
        on_check: every check as it is known.
        on_step: what was done, in words.
        confirm: asks whether a fingerprint is the host's; raises where nobody can be asked.
    """

    on_check: Callable[[Check], None]
    on_step: Callable[[str], None]
    confirm: Callable[[str], bool]


def check_wish(wish: Wish) -> None:
    """Refuse what is wrong with the command line, before anything is asked of anybody."""
    from reconciler.load.meaning import check_name
    from reconciler.load.values import check_address

    for finding in (check_name(wish.name, is_coven=False), check_address(wish.address)):
        if finding:
            raise UsageError(Problem(finding.code, "the host cannot be named like that", finding.detail, finding.fix))
    for option, user in (("--user", wish.user), ("--ssh-user", wish.ssh_user)):
        if user is not None and not _USER.fullmatch(user):
            raise UsageError(Problem("REC7422", f"{option} is no login name", ascii(user[:40]), f"{option} recon"))
    if wish.scope == "user":
        _check_login(wish)
    if wish.user == "root":
        raise UsageError(Problem("REC7422", "--user is for an account to be made", "root is there", "leave out --user"))
    if wish.host_key is not None and not _FINGERPRINT.fullmatch(wish.host_key):
        detail = f"{wish.host_key[:60]!a} is not SHA256: and 43 characters"
        fix = "on the host's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
        raise UsageError(Problem("REC7422", "--host-key is no fingerprint", detail, fix))


def _check_login(wish: Wish) -> None:
    """Nothing runs as root there: the login is the user's own, and nobody makes an account."""
    if wish.user is not None:
        detail = "an account is made as root, and with --scope user nothing of recon runs as root"
        raise UsageError(Problem("REC7495", "--user does not go with --scope user", detail, "--ssh-user NAME"))
    if wish.ssh_user == "root":
        detail = "units, containers and state will be those of the login, which must not be root"
        raise UsageError(Problem("REC7495", "--scope user needs a login of its own", detail, "--ssh-user NAME"))


def ssh_of(wish: Wish, defaults: Defaults) -> Ssh:
    """Return how the host will be reached, as its file will say it."""
    from pydantic import ValidationError

    told = {"port": wish.port, "jump": wish.jump, "key": wish.key, "user": wish.user or wish.ssh_user}
    given = {name: value for name, value in told.items() if value is not None}
    try:
        return Ssh.model_validate({**defaults.ssh.model_dump(), **given})
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        option = f"--{first['loc'][0]}"
        raise UsageError(Problem("REC7422", f"{option} cannot be used", first["msg"], "recon enroll --help")) from exc


def refuse_another(fleet: Fleet, wish: Wish, ssh: Ssh) -> None:
    """Refuse a name that another machine has, and a machine that has another name."""
    for host in fleet.hosts.values():
        is_there = (host.address, host.ssh.port, host.ssh.jump) == (wish.address, ssh.port, ssh.jump)
        if host.name == wish.name and not is_there:
            detail = f"git says that {host.name} is at {host.address}, port {host.ssh.port}"
            raise host_file.exists(host_file.path_of(wish.name), detail)
        if host.name != wish.name and is_there:
            detail = f"{wish.address} is {host.name} in git; a machine is one host"
            fix = f"recon doctor --host {host.name}"
            raise RefusedError(Problem("REC7423", "the machine has a name already", detail, fix))


def candidate(wish: Wish, ssh: Ssh, defaults: Defaults, host_key: str | None) -> Host:
    """Return the machine as a host that runs nothing yet, so that it can be connected to."""
    return Host(
        name=wish.name,
        address=wish.address,
        host_key=host_key,
        ssh=ssh,
        scope=wish.scope,
        reserve=None,
        memory=MemorySpec(),
        platform=defaults.platform,
        slots=(Slot(name="all", gpus="all", coven=None),),
        may_run=(),
        shared=(),
        residents={},
        spiral=Spiral(),
        schedule=(),
    )

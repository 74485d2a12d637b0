"""`recon enroll`: make a machine a host of the fleet."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode, Problem, RefusedError

if TYPE_CHECKING:
    from reconciler.model.survey import Check


class Scope(StrEnum):
    """Whose units a host's are."""

    SYSTEM = "system"
    USER = "user"


def enroll(
    address: Annotated[str, typer.Argument(help="IP address or host name of the machine.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the fleet calls it; the file's name too.")],
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="USER", help="Make this account, with your key and one sudoers rule."),
    ] = None,
    scope: Annotated[
        Scope, typer.Option("--scope", help="user: nothing runs as root, all is the login's own; needs --ssh-user.")
    ] = Scope.SYSTEM,
    ssh_user: Annotated[
        str,
        typer.Option("--ssh-user", metavar="USER", help="Log in as this user now: root, one with sudo, or the user."),
    ] = "root",
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="SSH port, when not the fleet's.")
    ] = None,
    jump: Annotated[
        str | None, typer.Option("--jump", metavar="USER@HOST", help="Jump host; its key must be in known_hosts.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="FILE", help="Private key file, when not the fleet's.")
    ] = None,
    host_key: Annotated[
        str | None,
        typer.Option("--host-key", metavar="SHA256:…", help="The host's key fingerprint; else it is shown and asked."),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option("--share", metavar="NAME", help="Make it a worker of this share; its hub must allow claiming."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look, and say what would be done.")] = False,
) -> None:
    """Check a machine, install the agent, make an account, prove it works, and write its file in desired/hosts.

    Nothing is changed before every check passed, nothing is written here before the new login worked. A file that is
    there is never overwritten. Typed again, it finds everything there and changes nothing.

    Examples: recon enroll 192.0.2.13 --name spark-3 --user recon --key ~/.ssh/recon_ed25519 ·
    recon enroll 192.0.2.13 --name spark-3 --check · recon enroll 192.0.2.13 --name spark-3 --share motion ·
    recon enroll 192.0.2.14 --name solo-1 --scope user --ssh-user solo

    Exit codes: 0 enrolled, or with --check it could be · 1 the host answered wrongly, or the new login does not work ·
    3 a check failed or the key was not confirmed · 8 the host did not answer · 64 usage.
    """
    from reconciler.enrolment.asked import Ears, Wish
    from reconciler.enrolment.enrol import enroll as run_enrolment
    from reconciler.views.checkup import check_lines

    def on_check(found: Check) -> None:
        for line in check_lines([found], common.paint()):
            common.say(line)

    wish = Wish(address, name, user, ssh_user, port, jump, key, host_key, check, scope.value, share)
    try:
        ended = run_enrolment(common.SETTINGS.root, wish, Ears(on_check, common.tell, _confirm))
    except KeyboardInterrupt:
        common.tell("what was begun is whole or not there, on the host and here: type the same command again")
        raise
    if ended.worker and ended.worker.text is None:
        common.tell(f"write this into desired/workloads/spiral.yaml, which could not be edited: {ended.worker.line}")
    if check:
        for part in ended.done:
            common.say(f"would make on the host: {part}")
        common.say(
            f"would write {ended.file}:\n\n{ended.text}" if not _is_there(ended.file) else f"{ended.file} is there"
        )
        if ended.worker and ended.worker.text is not None:
            common.say(f"would write into desired/workloads/spiral.yaml: {ended.worker.line}")
        common.finish(ExitCode.OK)
    for part in ended.kept:
        common.tell(f"was there: {part}")
    common.say(f"{'wrote' if ended.written else 'kept'} {ended.file}")
    if ended.worker and ended.worker.text is not None:
        common.say(f"{'kept' if ended.worker.is_there else 'wrote'} {ended.worker.line}")
    common.say(f"next: write coven: NAME into it, then: recon render && recon plan --host {name}")
    common.finish(ExitCode.OK)


def _is_there(file: str) -> bool:
    return (common.SETTINGS.root / file).exists()


def _confirm(shown: str) -> bool:
    """Ask whether the key is the host's; only a person who compared it can say."""
    if not sys.stdin.isatty():
        raise RefusedError(
            Problem(
                "REC7420",
                "the host's key was not confirmed",
                f"{shown}, and there is no terminal to ask on",
                "--host-key SHA256:…, as the host's console says: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
            )
        )
    common.tell(f"{shown}. Compare it on the host's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    sys.stderr.write("Type yes if it is the same: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == "yes"

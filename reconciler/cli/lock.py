"""`recon lock`: reserve a host for whoever has the token, and take it away from whoever will not give it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconciler.cli import common
from reconciler.cli.tokens import TokenOption, one_token
from reconciler.errors import ExitCode, Problem, RefusedError, UsageError

if TYPE_CHECKING:
    from reconciler.apply.locks import LockReply
    from reconciler.model.desired import Host
    from reconciler.workflow.repository import Repository

app = typer.Typer(
    help="Reserve a host, or a slot of it; take it back from whoever will not give it.", no_args_is_help=True
)

TargetArgument = Annotated[str, typer.Argument(metavar="HOST[/SLOT]", help="The host, or one slot of it.")]
OwnerOption = Annotated[
    str | None, typer.Option("--owner", metavar="TEXT", help="Whose it is; else you, as user@computer.")
]
_TTL = "How long it stands unless renewed: 1s to 24h."


@app.command("acquire")
def acquire(
    target: TargetArgument,
    ttl: Annotated[str, typer.Option("--ttl", metavar="DURATION", help=_TTL)],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; whoever is refused reads it.")],
    owner: OwnerOption = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Reserve a host or a slot, and print the token, once: the host keeps a hash of it only.

    While it stands, transitions of others are refused there, with owner, reason and how long it stands. It frees itself
    when its time is up. The token is all of stdout, so a script may take it: RECON_LOCK_TOKEN=$(recon lock acquire …).

    Exit codes: 0 done · 3 refused · 4 somebody else has it, or a transition runs · 8 the host did not answer.

    Examples: recon lock acquire spark-1 --ttl 30m --reason measuring ·
    recon lock acquire box/b --ttl 2h --reason demo
    """
    from reconciler.cli.apply import owner as caller

    repository, host, slot = _target(target)
    args = {"slot": slot, "ttl_s": _seconds(ttl), "owner": caller() if owner is None else owner, "reason": reason}
    done = _ask(repository, host, "acquire", args)
    from reconciler.model.tokens import shown
    from reconciler.views.escape import one_line

    token = shown(host.name, done.token or "")
    if output is common.Output.json:
        common.say_document({**_document("acquire", host, done), "token": token})
    else:
        common.tell(f"{_said(host, done)}; renew it with recon lock renew, give it back with recon lock release")
        common.say(one_line(token))
    common.finish(ExitCode.OK)


@app.command("renew")
def renew(
    target: TargetArgument,
    token: TokenOption = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="DURATION", help="For how long from now; else as long as before.")
    ] = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Let a lock stand for its time again from now, while a transition runs too.

    Exit codes: 0 done · 3 the token is of no lock that stands · 8 the host did not answer.

    Examples: recon lock renew spark-1 · recon lock renew spark-1 --ttl 2h --token -
    """
    repository, host, slot = _target(target)
    args: dict[str, Any] = {"slot": slot, "token": one_token(token, host.name)}
    if ttl is not None:
        args["ttl_s"] = _seconds(ttl)
    _show("renew", host, _ask(repository, host, "renew", args), output=output)


@app.command("release")
def release(
    target: TargetArgument, token: TokenOption = None, output: common.OutputOption = common.Output.text
) -> None:
    """Give a lock back before its time is up.

    Exit codes: 0 done · 3 the token is of no lock that stands · 8 the host did not answer.

    Examples: recon lock release spark-1 · recon lock release spark-1 --token -
    """
    repository, host, slot = _target(target)
    args = {"slot": slot, "token": one_token(token, host.name)}
    _show("release", host, _ask(repository, host, "release", args), output=output)


@app.command("list")
def list_locks(host: common.HostOption = None, output: common.OutputOption = common.Output.text) -> None:
    """Show every lock that stands: on what, whose, why, and how long it still stands at most. Read-only.

    Exit codes: 0 shown · 8 a host did not answer.

    Examples: recon lock list · recon lock list --host spark-1 --output json
    """
    from reconciler.views.locks import lock_lines, locks_document
    from reconciler.workflow.planning import observe_hosts
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    hosts = select_hosts(repository.fleet, host or ())
    with common.asking() as on_done:
        answers = observe_hosts(repository, hosts, {}, on_done=on_done)
    if output is common.Output.json:
        common.say_document(locks_document(repository.fleet.name, answers))
    else:
        for line in lock_lines(answers, common.paint()):
            common.say(line)
    common.finish_asked(answers)


@app.command("force-release")
def force_release(
    host: Annotated[str, typer.Argument(help="The host whose claim or lock is taken away.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the host's history.")],
    epoch: Annotated[
        int | None, typer.Option("--epoch", metavar="N", help="The epoch of the claim, as `recon status` shows it.")
    ] = None,
    lock: Annotated[
        str | None, typer.Option("--lock", metavar="ID", help="The lock, as `recon lock list` shows it.")
    ] = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Take a claim or a lock away from whoever has it; who did this and why is kept on the host.

    A lock (--lock) is gone at once; a transition of its holder that runs goes on to its end. A claim (--epoch): the
    executor that has it is stopped, and the host goes back to what ran before, or on when that was committed already.
    Then the next epoch is granted, and whoever held the claim can change nothing any more.

    Exit codes: 0 done · 4 somebody executes by hand · 5 the host is not at that epoch, or has no such lock · 8 the host
    did not answer.

    Examples: recon lock force-release spark-1 --epoch 7 --reason 'executor hangs in a pull' ·
    recon lock force-release spark-1 --lock 5f2c91ab --reason 'its owner is on leave'
    """
    if (epoch is None) == (lock is None):
        detail = "a claim is named by --epoch, a lock by --lock"
        raise UsageError(Problem("REC7018", "say what is taken away", detail, "recon lock list, recon status"))
    what = "a claim" if lock is None else "a lock"
    repository, chosen = common.open_one(host, what=what, command="name one of them")
    if lock is None:
        _take_claim(repository, chosen, epoch or 0, reason, output=output)
    from reconciler.cli.apply import owner as caller

    done = _ask(repository, chosen, "force", {"lock": lock, "owner": caller(), "reason": reason})
    _show("force-release", chosen, done, output=output)


def _take_claim(repository: Repository, chosen: Host, epoch: int, reason: str, *, output: common.Output) -> None:
    from reconciler.cli.apply import owner as caller
    from reconciler.views.escape import one_line
    from reconciler.workflow.deeds import release_claim

    told: set[tuple[str | None, str | None]] = set()

    def on_wait(txid: str | None, step: str | None) -> None:
        if (txid, step) not in told:
            told.add((txid, step))
            common.tell(
                f"{chosen.name} ends transaction {one_line(txid or '?')} first: {one_line(step or 'beginning')}"
            )

    done = release_claim(repository, chosen, epoch=epoch, reason=reason, owner=caller(), on_wait=on_wait)
    if output is common.Output.json:
        document = {
            "format_version": "1.0",
            "command": "lock force-release",
            "status": "ok",
            "host": chosen.name,
            "epoch": done.epoch,
            "stopped": done.stopped,
        }
        common.say_document(document)
    else:
        stopped = f", transaction {one_line(done.stopped)} was ended" if done.stopped else ""
        common.say(f"{chosen.name} is free: the claim of epoch {epoch} is void, the host is at {done.epoch}{stopped}")
        common.say(f"look at it with: recon status --host {chosen.name}")
    common.finish(ExitCode.OK)


def _target(text: str) -> tuple[Repository, Host, str | None]:
    """Return the one host that is meant and its slot, None for the whole host; REC7305 when it has no such slot."""
    name, has_slot, slot = text.partition("/")
    repository, host = common.open_one(name, what="a lock", command="recon lock list")
    slots = [each.name for each in host.slots]
    if has_slot and slot not in slots:
        detail = f"{slot!a} of {host.name}; it has {', '.join(slots)}"
        raise RefusedError(Problem("REC7305", "the host has no such slot", detail, f"{host.name}/{slots[0]}"))
    return repository, host, slot if has_slot else None


def _seconds(text: str) -> float:
    from pydantic_core import PydanticCustomError

    from reconciler.model.base import parse_duration

    try:
        return parse_duration(text)
    except PydanticCustomError as exc:
        detail = f"{exc.message()}; from 1s to 24h, and it can be renewed"
        raise RefusedError(Problem("REC7303", "that is no time for a lock to stand", detail, "--ttl 30m")) from exc


def _ask(repository: Repository, host: Host, deed: str, args: dict[str, Any]) -> LockReply:
    from reconciler.apply.locks import lock
    from reconciler.workflow.repository import on_host

    return on_host(repository, host, lambda host, connect: lock(host, connect, {**args, "deed": deed}))


def _show(deed: str, host: Host, done: LockReply, *, output: common.Output) -> None:
    if output is common.Output.json:
        common.say_document(_document(deed, host, done))
    elif deed == "renew":
        common.say(_said(host, done))
    else:
        common.say(_freed(host, done))
    common.finish(ExitCode.OK)


def _said(host: Host, done: LockReply) -> str:
    from reconciler.model.base import format_duration
    from reconciler.views.escape import one_line
    from reconciler.views.locks import what

    if done.lock is None:
        return f"{host.name} is locked"
    stands = format_duration(round(done.lock.left_s))
    whose = one_line(f"{done.lock.owner} for {stands} (lock {done.lock.id})")
    return f"{what(host.name, done.lock.slot)} is locked by {whose}"


def _freed(host: Host, done: LockReply) -> str:
    from reconciler.views.escape import one_line
    from reconciler.views.locks import what

    if done.lock is None:
        return f"{host.name} has no locks any more; the book that could not be read is {one_line(done.aside or '?')}"
    return f"lock {one_line(done.lock.id)} of {one_line(done.lock.owner)} on {what(host.name, done.lock.slot)} is gone"


def _document(deed: str, host: Host, done: LockReply) -> dict[str, Any]:
    document: dict[str, Any] = {
        "format_version": "1.0",
        "command": f"lock {deed}",
        "status": "ok",
        "host": host.name,
        "lock": done.lock.model_dump(mode="json") if done.lock else None,
    }
    return {**document, "aside": done.aside} if done.aside else document

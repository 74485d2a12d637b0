"""`recon events`: try the webhooks of hosts, and check a message as its receiver must."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode, HostError, Problem, UsageError

if TYPE_CHECKING:
    from reconciler.apply.webhooks import Trial
    from reconciler.views.paint import Paint

app = typer.Typer(help="What hosts tell others: signed webhooks.", no_args_is_help=True)


@app.command("test")
def try_out(host: common.HostOption = None, output: common.OutputOption = common.Output.text) -> None:
    """Let every host send an event of the type `test` to each of its webhooks now, and show what they answered.

    It goes past the outbox: nothing else is sent by it, and nothing waits for it.

    Examples: recon events test · recon events test --host spark-1

    Exit codes: 0 every webhook took it · 1 one did not, or has no keys, or a host has none · 8 a host did not answer.
    """
    from reconciler.cli.apply import owner
    from reconciler.workflow.deeds import try_webhooks
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    tried, lost = try_webhooks(repository, select_hosts(repository.fleet, host or ()), owner())
    failed = any(each.error for trial in tried.values() for each in trial.webhooks.values())
    if output is common.Output.json:
        hosts: dict[str, object] = {name: trial.model_dump(mode="json") for name, trial in sorted(tried.items())}
        hosts |= {name: {"unknown": _why(error)} for name, error in sorted(lost.items())}
        document = {
            "format_version": "1.0",
            "command": "events test",
            "status": "incomplete" if lost else "failed" if failed else "ok",
            "fleet": repository.fleet.name,
            "hosts": hosts,
        }
        common.say_document(document)
    else:
        for line in _lines(tried, lost, common.paint()):
            common.say(line)
    codes = {error.exit_code for error in lost.values()}
    if ExitCode.UNKNOWN_OUTCOME in codes:
        common.finish(ExitCode.UNKNOWN_OUTCOME)
    common.finish(ExitCode.ERROR if failed or codes else ExitCode.OK)


def _lines(tried: Mapping[str, Trial], lost: Mapping[str, HostError], paint: Paint) -> Iterator[str]:
    """Yield what every webhook answered, then the hosts that tried none."""
    from reconciler.views.escape import one_line

    for name, trial in sorted(tried.items()):
        for webhook, each in sorted(trial.webhooks.items()):
            word = paint("failed", "red") if each.error else paint("taken", "green")
            detail = each.error or f"it answered {each.status}"
            yield f"{paint(name, 'bold')}: webhook {one_line(webhook)} {word} ({each.took_s:g} s): {one_line(detail)}"
    for name, error in sorted(lost.items()):
        word = "unreachable" if error.exit_code is ExitCode.UNKNOWN_OUTCOME else "not tried"
        yield f"{paint(name, 'bold')}: {paint(word, 'red')} {one_line(_why(error))}"
        if error.problems[0].fix:
            yield f"  hint: {paint(one_line(error.problems[0].fix), 'cyan')}"


def _why(error: HostError) -> str:
    problem = error.problems[0]
    return f"[{problem.code}] {problem.summary}: {problem.detail}"


@app.command("verify")
def verify(
    secret_file: Annotated[
        Path, typer.Option("--secret-file", metavar="FILE", help="Keys as on the host, one whsec_… in each line.")
    ],
    header: Annotated[
        list[str], typer.Option("--header", metavar="'NAME: VALUE'", help="A header of the request; repeat it.")
    ],
    tolerance: Annotated[
        str, typer.Option("--tolerance", metavar="DURATION", help="How far its time may be from now.")
    ] = "5m",
    seen: Annotated[
        Path | None, typer.Option("--seen", metavar="FILE", help="Remembers ids: a second time is refused.")
    ] = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Check one webhook as its receiver must: the body on stdin, the headers as options.

    The signature is compared in constant time with every key, then the time, then whether the id was taken before.

    Examples: recon events verify --secret-file ops.keys --header 'webhook-id: evt_1' --seen seen.jsonl < body.json

    Exit codes: 0 it may be believed · 3 it may not, the message says why.
    """
    import time

    from reconciler.apply.webhooks import read_keys
    from reconciler.apply.webhooks import verify as check
    from reconciler.model.base import parse_duration
    from reconciler.views.escape import one_line

    try:
        tolerance_s = parse_duration(tolerance)
    except ValueError as exc:
        raise UsageError(Problem("REC7018", "--tolerance is no duration", str(exc), "--tolerance 5m")) from exc
    wrong = [each for each in header if ":" not in each]
    if wrong:
        raise UsageError(Problem("REC7018", "a header has no colon", one_line(wrong[0]), "--header 'NAME: VALUE'"))
    pairs = [each.partition(":") for each in header]
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = sys.stdin.buffer.read()
    name = check(read_keys(secret_file), headers, body, now=time.time(), tolerance_s=tolerance_s, seen=seen)
    if output is common.Output.json:
        envelope = {"format_version": "1.0", "command": "events verify", "status": "ok", "id": name}
        common.say_document(envelope)
    else:
        common.say(f"{one_line(name)} is whole, of now, and signed with a key of {secret_file}")
    common.finish(ExitCode.OK)

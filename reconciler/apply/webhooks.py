"""Asks hosts to try their webhooks, and checks a message as a receiver must: both ends of one delivery.

Must not: know a key for longer than a check, or say anything of it.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from reconciler.agent import webhook
from reconciler.errors import Problem, RefusedError, Where
from reconciler.hosts.reply import read
from reconciler.hosts.transport import Connect
from reconciler.model.base import Wire
from reconciler.model.desired import Host

DEADLINE_S = 60.0
_MOST_SEEN = 100_000


class Tried(Wire):
    """What one webhook answered: 0 and why when there was no answer, an empty error when it took the event."""

    status: int
    error: str
    took_s: float


class Trial(Wire):
    """The answers of all webhooks of a host to one event of the type `test`."""

    id: str
    webhooks: dict[str, Tried]


def try_webhooks(host: Host, connect: Connect, owner: str) -> Trial:
    """Let a host send its test event, at once and past its outbox.

    Raises:
        HostError: REC7326, no webhooks are committed there; or the host could not be asked.
    """
    transport = connect(host)
    try:
        answer = transport.ask("events_test", {"owner": owner, "host": host.name}, deadline_s=DEADLINE_S)
        return read(Trial, host.name, answer)
    finally:
        transport.close()


def read_keys(path: Path) -> list[bytes]:
    """Return the keys in a file; RefusedError says why it holds none, without a word of it."""
    try:
        return webhook.read_keys(path.read_bytes())
    except webhook.SecretError as exc:
        fix = "one whsec_ key in each line, as on the host"
        raise RefusedError(Problem("REC7331", "the file of keys cannot be used", f"{path}: {exc}", fix)) from exc


def verify(
    keys: list[bytes], headers: Mapping[str, str], body: bytes, *, now: float, tolerance_s: float, seen: Path | None
) -> str:
    """Return the id of a message that is whole, lately sent and new; RefusedError says what is wrong with another.

    Args:
        keys: what may have signed it.
        headers: those of the request.
        body: its bytes as they came.
        now: Unix seconds.
        tolerance_s: how far its time may be from now.
        seen: the memory of ids that were taken before; without one a second time is not noticed.
    """
    try:
        name = webhook.check(keys, headers, body, now, tolerance_s)
    except webhook.MessageError as exc:
        raise _refused(exc.code, str(exc)) from exc
    # Last: what did not verify must not fill the memory.
    if seen is not None and not _remember(seen, name, now, tolerance_s):
        raise _refused("REC7332", f"{name} was taken before")
    return name


def _remember(path: Path, name: str, now: float, tolerance_s: float) -> bool:
    """Note an id with its time, one reader at a time; False when it is there already.

    A message whose time is out of tolerance is refused by that, so an id is kept for twice as long at least; the
    newest hundred thousand are kept for longer, for a sender may try for days.
    """
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = _remembered(path)
        if name in known:
            return False
        known[name] = now
        newest = sorted(known.items(), key=lambda each: each[1])
        kept = [
            each for at, each in enumerate(newest) if at >= len(newest) - _MOST_SEEN or now - each[1] <= 2 * tolerance_s
        ]
        new = path.with_name(path.name + ".new")
        with new.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": each, "at": at}) + "\n" for each, at in kept)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        return True


def _remembered(path: Path) -> dict[str, float]:
    """Return the ids in a memory with their times; RefusedError names the line that is none of it."""
    known: dict[str, float] = {}
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
        try:
            each = json.loads(line.decode("utf-8"))
            name, at = each["id"], float(each["at"])
            if not isinstance(name, str) or not math.isfinite(at):
                raise ValueError("not an id and a time")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
            detail = 'it is not {"id": …, "at": …} as this command writes it, so what was taken before cannot be told'
            fix = (
                f"correct or remove that line; or begin anew: mv {shlex.quote(str(path))} {shlex.quote(f'{path}.old')}"
            )
            where = Where(str(path), number, 1)
            raise RefusedError(Problem("REC7453", "the memory of ids cannot be used", detail, fix, where)) from exc
        known[name] = at
    return known


def _refused(code: str, detail: str) -> RefusedError:
    summaries = {
        "REC7328": "the message is not one of Standard Webhooks",
        "REC7329": "no signature matches",
        "REC7330": "the message is not of now",
        "REC7332": "the message was taken before",
    }
    fixes = {
        "REC7328": "hand over webhook-id, webhook-timestamp and webhook-signature as they came",
        "REC7329": "check the body byte for byte, and that the file has the key of this webhook",
        "REC7330": "check the clocks of host and receiver; do not answer it with success",
        "REC7332": "answer it with success, and do nothing",
    }
    return RefusedError(Problem(code, summaries[code], detail, fixes[code]))

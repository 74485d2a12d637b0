"""Stops what a host runs, or lifts that again, at once and beside any plan; all hosts at the same time.

Must not: wait for a claim, or let a host that does not answer keep the others waiting.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from reconciler.errors import HostError, Problem
from reconciler.hosts.reply import Form, read
from reconciler.hosts.transport import Connect, Transport
from reconciler.model.base import Wire
from reconciler.model.desired import Host

DEADLINE_S = 60.0
_MAX_PARALLEL = 64

Scope = Literal["spiral", "coven", "all"]


class Downed(Wire):
    """What was marked down on a host, what was stopped for it, and what still ends within its stop timeouts."""

    down: tuple[str, ...]
    stopped: tuple[str, ...]
    ending: tuple[str, ...]


class Lifted(Wire):
    """What may run again on a host, what of it was down, what was started or why nothing, what a person overrode."""

    up: tuple[str, ...]
    was_down: tuple[str, ...]
    started: tuple[str, ...]
    idle: str
    cleared: bool
    against: tuple[str, ...]


class Wish(Wire):
    """What a person wants of hosts, and why."""

    scope: Scope
    owner: str
    reason: str
    force: bool = False
    clear: bool = False


def down(hosts: Iterable[Host], connect: Connect, wish: Wish) -> dict[str, Downed | Problem]:
    """Take a scope down on hosts; by host what came of it, or what went wrong there."""
    return _each(hosts, connect, "down", wish, Downed)


def up(hosts: Iterable[Host], connect: Connect, wish: Wish) -> dict[str, Lifted | Problem]:
    """Lift it on hosts; by host what came of it, or why not."""
    return _each(hosts, connect, "up", wish, Lifted)


def _each(
    hosts: Iterable[Host], connect: Connect, verb: str, wish: Wish, form: type[Form]
) -> dict[str, Form | Problem]:
    transports = {host.name: connect(host) for host in hosts}
    if not transports:
        return {}
    with ThreadPoolExecutor(min(_MAX_PARALLEL, len(transports)), thread_name_prefix=verb) as pool:
        asked = {
            name: pool.submit(_ask, transport, verb, {**wish.model_dump(mode="json"), "host": name}, form)
            for name, transport in transports.items()
        }
        return {name: future.result() for name, future in asked.items()}


def _ask(transport: Transport, verb: str, args: dict[str, object], form: type[Form]) -> Form | Problem:
    try:
        return read(form, str(args["host"]), transport.ask(verb, args, deadline_s=DEADLINE_S))
    except HostError as exc:
        return exc.problems[0]
    finally:
        transport.close()

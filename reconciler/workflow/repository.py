"""A state repository as it was read, and which of its hosts are meant.

Must not: plan, or ask hosts more than one thing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from reconciler.errors import DesiredStateError, Problem, UsageError
from reconciler.load.fleet import load_fleet, load_reachable, load_templates
from reconciler.load.source import load_source
from reconciler.model.desired import Fleet, Host, Source

if TYPE_CHECKING:
    from reconciler.hosts.transport import Connect

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Repository:
    """A state repository as it was read: what git says, from which commit, with which templates."""

    root: Path
    fleet: Fleet
    source: Source
    templates: dict[str, str]
    is_whole: bool = True
    """Whether git is valid; where it is not, hosts can be reached and nothing can be rendered."""


def open_repository(root: Path) -> Repository:
    """Read a state repository whole; DesiredStateError names everything that is wrong with it."""
    return Repository(root=root, fleet=load_fleet(root), source=load_source(root), templates=load_templates(root))


def open_for_deeds(root: Path, *, on_problems: Callable[[tuple[Problem, ...]], None]) -> Repository:
    """Read a state repository as far as hosts can be reached with it, whatever else is wrong in it.

    What stops, holds, unlocks or only looks must not wait until git is valid: `on_problems` is told, and it goes on.
    """
    try:
        return open_repository(root)
    except DesiredStateError as exc:
        fleet, _ = load_reachable(root)
        on_problems(exc.problems)
        return Repository(root=root, fleet=fleet, source=load_source(root), templates={}, is_whole=False)


def select_hosts(fleet: Fleet, patterns: Iterable[str]) -> tuple[Host, ...]:
    """Return the hosts that match any of the shell-style patterns, all of them when there are no patterns."""
    wanted = tuple(patterns)
    if not wanted:
        return tuple(fleet.hosts[name] for name in sorted(fleet.hosts))
    found: dict[str, Host] = {}
    for pattern in wanted:
        matching = fnmatch.filter(sorted(fleet.hosts), pattern)
        if not matching:
            raise UsageError(
                Problem(
                    code="REC7020",
                    summary=f"no host matches '{pattern}'",
                    detail=f"hosts of {fleet.name}: {', '.join(sorted(fleet.hosts))}",
                    fix="recon status",
                )
            )
        found |= {name: fleet.hosts[name] for name in matching}
    return tuple(found[name] for name in sorted(found))


def only_host(repository: Repository, name: str, *, what: str, command: str) -> Host:
    """Return the one host that is meant, of whom alone `what` can be; UsageError when the name means several."""
    found = select_hosts(repository.fleet, [name])
    if len(found) == 1:
        return found[0]
    detail = f"'{name}' matches {', '.join(host.name for host in found)}"
    raise UsageError(Problem("REC7018", f"{what} is one host's", detail, command))


def on_host(repository: Repository, host: Host, ask: Callable[[Host, Connect], Answer]) -> Answer:
    """Ask one host one thing and let go of it."""
    with reached(repository) as connect:
        return ask(host, connect)


@contextmanager
def reached(repository: Repository) -> Iterator[Connect]:
    """Give the way to the hosts of a repository, and let go of all of them at the end."""
    from reconciler.hosts.connect import connector

    connect = connector(repository.fleet, repository.root)
    try:
        yield connect
    finally:
        connect.close()

"""Reads a state repository: `desired/` into a `Fleet`, `templates/` into texts.

Every file is read, and every problem of every file is told at once, in the order of files and lines.

Must not: ask hosts, render, print.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from reconciler.errors import DesiredStateError, Problem, Where
from reconciler.load.codes import problem
from reconciler.load.document import Document, parse
from reconciler.load.effective import effective_fleet
from reconciler.load.explain import explain
from reconciler.load.files import Entry, list_objects, list_strays, not_regular, read_text
from reconciler.load.meaning import Known, check_coven, check_fleet, check_host, check_name
from reconciler.load.report import Report
from reconciler.load.shares import check_shares
from reconciler.load.spiral import check_spiral
from reconciler.model.desired import CovenFile, Defaults, Fleet, FleetFile, HostFile, Policy
from reconciler.model.spiral import SPIRAL, SpiralFile

DESIRED = "desired"
TEMPLATES = "templates"
FLEET_FILE = f"{DESIRED}/fleet.yaml"

_File = TypeVar("_File", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Read(Generic[_File]):
    """A file that has the right shape, with the document it came from."""

    file: _File
    document: Document


@dataclass(frozen=True, slots=True)
class _Loop:
    """The file of the spiral: whether there is one, and what it says where it has the right shape."""

    file: SpiralFile | None
    is_there: bool


def load_fleet(root: Path, *, may_be_empty: bool = False) -> Fleet:
    """Read `desired/` below `root`; one without any host is refused, unless the first is to be added.

    Raises:
        DesiredStateError: all problems of all files.
    """
    problems: list[Problem] = []
    with collection_paused():
        fleet = _load(root, problems, may_be_empty=may_be_empty)
    if problems or fleet is None:
        raise DesiredStateError(*in_order(problems))
    return fleet


def load_defaults(root: Path) -> Defaults:
    """Read what `fleet.yaml` says for every host and coven that does not say otherwise.

    Raises:
        DesiredStateError: the file cannot be read.
    """
    problems: list[Problem] = []
    fleet = _read_fleet(root / DESIRED, problems)
    if fleet is None:
        raise DesiredStateError(*in_order(problems))
    return fleet.file.defaults


def load_reachable(root: Path) -> tuple[Fleet, tuple[Problem, ...]]:
    """Read what is needed to reach hosts and nothing else, for deeds that must not wait until git is valid.

    Returns:
        A fleet without covens, of the hosts whose own file has the right shape; and everything that is wrong.

    Raises:
        DesiredStateError: `fleet.yaml` cannot be read, or no host's file can: nobody can be reached.
    """
    problems: list[Problem] = []
    desired = root / DESIRED
    fleet = _read_fleet(desired, problems)
    hosts = _read_all(list_objects(desired / "hosts", f"{DESIRED}/hosts", problems), HostFile, problems)
    if fleet is None or not hosts:
        load_fleet(root)  # says everything that is wrong
        raise DesiredStateError(*in_order(problems))
    files = {name: read.file for name, read in hosts.items()}
    return effective_fleet(fleet.file, {}, files), tuple(in_order(problems))


def load_templates(root: Path) -> dict[str, str]:
    """Read `templates/*.j2` below `root` by name; nothing when there is no such folder.

    Raises:
        DesiredStateError: all templates that are not plain UTF-8 files.
    """
    folder = root / TEMPLATES
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DesiredStateError(not_regular(TEMPLATES))
    problems: list[Problem] = []
    templates: dict[str, str] = {}
    for path in sorted(folder.glob("*.j2")):
        try:
            templates[path.name] = read_text(path, f"{TEMPLATES}/{path.name}")
        except DesiredStateError as error:
            problems.extend(error.problems)
    if problems:
        raise DesiredStateError(*in_order(problems))
    return templates


def in_order(problems: list[Problem]) -> list[Problem]:
    """Sort by file and line, and say one thing about one place once."""
    return sorted(dict.fromkeys(problems), key=lambda each: (each.where or Where(""), each.code, each.detail))


def _load(root: Path, problems: list[Problem], *, may_be_empty: bool) -> Fleet | None:
    desired = root / DESIRED
    if desired.is_symlink() or (desired.exists() and not desired.is_dir()):
        problems.append(not_regular(DESIRED))
        return None
    list_strays(desired, DESIRED, known=("fleet.yaml", "hosts", "covens", "workloads"), problems=problems)
    fleet = _read_fleet(desired, problems)
    coven_entries = list_objects(desired / "covens", f"{DESIRED}/covens", problems)
    covens = _read_all(coven_entries, CovenFile, problems)
    host_entries = list_objects(desired / "hosts", f"{DESIRED}/hosts", problems)
    hosts = _read_all(host_entries, HostFile, problems)
    if not host_entries and desired.is_dir() and not may_be_empty:
        detail = "there is no host in it; an empty desired state would stop everything that runs"
        problems.append(problem("REC2024", Where(f"{DESIRED}/hosts"), detail, "add desired/hosts/<name>.yaml"))
    _check_names(coven_entries, problems, are_covens=True)
    _check_names(host_entries, problems, are_covens=False)
    workload_entries = list_objects(desired / "workloads", f"{DESIRED}/workloads", problems)
    problems.extend(_unknown_workload(entry) for entry in workload_entries if entry.name != SPIRAL)
    spiral_entries = tuple(entry for entry in workload_entries if entry.name == SPIRAL)
    spiral = _read_all(spiral_entries, SpiralFile, problems).get(SPIRAL)
    if spiral is not None:
        policy = fleet.file.policy if fleet is not None else Policy()
        check_spiral(spiral.file, policy, Report(spiral.document, problems))
    loop = _Loop(spiral.file if spiral else None, is_there=bool(spiral_entries))
    if spiral is not None:
        names = frozenset(entry.name for entry in host_entries)
        files = {name: read.file for name, read in hosts.items()}
        check_shares(spiral.file, names, files, Report(spiral.document, problems))
    _check_meaning(fleet, coven_entries, covens, hosts, loop, problems)
    if problems or fleet is None:
        return None
    return effective_fleet(
        fleet.file,
        {name: read.file for name, read in covens.items()},
        {name: read.file for name, read in hosts.items()},
        loop.file,
    )


def _unknown_workload(entry: Entry) -> Problem:
    detail = "the only workload there is beside covens is the spiral"
    fix = f"rename it to {DESIRED}/workloads/{SPIRAL}.yaml, or move it to {DESIRED}/covens/"
    return problem("REC2036", Where(entry.file), detail, fix)


def _read_fleet(desired: Path, problems: list[Problem]) -> _Read[FleetFile] | None:
    path = desired / "fleet.yaml"
    if not path.is_symlink() and not path.exists():
        detail = "every state repository has this file" if desired.is_dir() else "there is no folder 'desired' here"
        fix = "run recon in a state repository, or make one with 'recon init DIR'"
        problems.append(problem("REC2024", Where(FLEET_FILE), detail, fix))
        return None
    return _read(str(path), FLEET_FILE, FleetFile, problems)


def _read_all(entries: tuple[Entry, ...], model: type[_File], problems: list[Problem]) -> dict[str, _Read[_File]]:
    read = ((entry.name, _read(entry.path, entry.file, model, problems)) for entry in entries)
    return {name: each for name, each in read if each is not None}


def _read(path: str, file: str, model: type[_File], problems: list[Problem]) -> _Read[_File] | None:
    """Read one file; None, and its problems, when it has not the right shape."""
    found: list[Problem] = []
    try:
        document = parse(read_text(path, file), file, found)
    except DesiredStateError as error:
        problems.extend(error.problems)
        return None
    if document is None:
        problems.extend(found)
        return None
    try:
        read = _Read(model.model_validate(document.value), document)
    except ValidationError as error:
        # What is wrong as YAML is told already; the schema would say the same of the same place in other words.
        told = {each.where for each in found}
        problems.extend(each for each in explain(error, document, model) if each.where not in told)
        read = None
    problems.extend(found)
    return read


def _check_names(entries: tuple[Entry, ...], problems: list[Problem], *, are_covens: bool) -> None:
    judged = ((entry, check_name(entry.name, is_coven=are_covens)) for entry in entries)
    problems.extend(
        problem(finding.code, Where(entry.file), finding.detail, finding.fix) for entry, finding in judged if finding
    )


def _check_meaning(
    fleet: _Read[FleetFile] | None,
    coven_entries: tuple[Entry, ...],
    covens: dict[str, _Read[CovenFile]],
    hosts: dict[str, _Read[HostFile]],
    loop: _Loop,
    problems: list[Problem],
) -> None:
    if fleet is not None:
        check_fleet(fleet.file, Report(fleet.document, problems))
    # With a broken fleet.yaml the policy is not known; its defaults are, so that the rest is still looked at.
    policy = fleet.file.policy if fleet is not None else Policy()
    defaults = fleet.file.defaults if fleet is not None else Defaults()
    names = frozenset(entry.name for entry in coven_entries)
    known = Known(
        policy=policy,
        names=names,
        watchdog=defaults.watchdog,
        drain=defaults.drain,
        ssh=defaults.ssh,
        spiral=loop.file,
        has_spiral=loop.is_there,
    )
    for name, coven in covens.items():
        check_coven(name, coven.file, known, Report(coven.document, problems))
    for name, host in hosts.items():
        check_host(name, host.file, known, Report(host.document, problems))


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the cycle collector: loading makes hundreds of thousands of values, and none of them is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

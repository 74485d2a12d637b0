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
from reconciler.model.desired import CovenFile, Fleet, FleetFile, HostFile, Policy, Watchdog

DESIRED = "desired"
TEMPLATES = "templates"
FLEET_FILE = f"{DESIRED}/fleet.yaml"

_File = TypeVar("_File", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Read(Generic[_File]):
    """A file that has the right shape, with the document it came from."""

    file: _File
    document: Document


def load_fleet(root: Path) -> Fleet:
    """Read `desired/` below `root`.

    Raises:
        DesiredStateError: all problems of all files.
    """
    problems: list[Problem] = []
    with collection_paused():
        fleet = _load(root, problems)
    if problems or fleet is None:
        raise DesiredStateError(*in_order(problems))
    return fleet


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


def _load(root: Path, problems: list[Problem]) -> Fleet | None:
    desired = root / DESIRED
    if desired.is_symlink() or (desired.exists() and not desired.is_dir()):
        problems.append(not_regular(DESIRED))
        return None
    list_strays(desired, DESIRED, known=("fleet.yaml", "hosts", "covens"), problems=problems)
    fleet = _read_fleet(desired, problems)
    coven_entries = list_objects(desired / "covens", f"{DESIRED}/covens", problems)
    covens = _read_all(coven_entries, CovenFile, problems)
    host_entries = list_objects(desired / "hosts", f"{DESIRED}/hosts", problems)
    hosts = _read_all(host_entries, HostFile, problems)
    if not host_entries and desired.is_dir():
        detail = "there is no host in it; an empty desired state would stop everything that runs"
        problems.append(problem("REC2024", Where(f"{DESIRED}/hosts"), detail, "add desired/hosts/<name>.yaml"))
    _check_names(coven_entries, problems, are_covens=True)
    _check_names(host_entries, problems, are_covens=False)
    _check_meaning(fleet, coven_entries, covens, hosts, problems)
    if problems or fleet is None:
        return None
    return effective_fleet(
        fleet.file,
        {name: read.file for name, read in covens.items()},
        {name: read.file for name, read in hosts.items()},
    )


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
    problems: list[Problem],
) -> None:
    if fleet is not None:
        check_fleet(fleet.file, Report(fleet.document, problems))
    # With a broken fleet.yaml the policy is not known; its defaults are, so that the rest is still looked at.
    policy = fleet.file.policy if fleet is not None else Policy()
    watchdog = fleet.file.defaults.watchdog if fleet is not None else Watchdog()
    names = frozenset(entry.name for entry in coven_entries)
    known = Known(policy=policy, names=names, watchdog=watchdog)
    for name, coven in covens.items():
        check_coven(name, coven.file, known, Report(coven.document, problems))
    for host in hosts.values():
        check_host(host.file, known, Report(host.document, problems))


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

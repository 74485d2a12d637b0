"""Booted hosts for the lab tests: one lab per run, skipped with one loud line where this computer cannot hold it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.lab import labs, scaffold, tools
from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine

SLOW = tuple(
    f"test_{name}.py"
    for name in ("schedule", "watchdog", "events", "rootless", "shares", "spiral", "services", "fencing")
)
"""What waits longest, longest first: begun last, it would be what everybody waits for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything below this directory as needing the lab; what waits longest comes first and ends in time."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.lab)
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep with a test that failed what its hosts logged last: they are gone when somebody reads why it failed."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.when == "call" and report.failed and isinstance(lab, Lab):
        report.sections += [(f"journal of {machine.record.name}", journal(machine)) for machine in lab.machines]
    return report


def journal(machine: Machine) -> str:
    """Return the last lines of a host's journal; what prevented it, where there is none."""
    try:
        done = machine.run(["journalctl", "--no-pager", "-o", "short-precise", "-n", "120"], check=False)
    except tools.LabError as problem:
        return str(problem)
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.fixture(scope="session")
def lab_ready(pytestconfig: pytest.Config) -> None:
    """Skip what needs the lab where it is unavailable; fail instead when RECON_LAB=require."""
    try:
        tools.check()
    except tools.LabUnavailableError as problem:
        if os.environ.get("RECON_LAB") == "require":
            pytest.fail(problem.reason, pytrace=False)
        terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
        if terminal:
            terminal.write_line(f"\nWARNING: {problem.reason}: every real-host test is skipped", red=True, bold=True)
        pytest.skip(problem.reason)


def progress(text: str) -> None:
    sys.stderr.write(f"lab: {text}\n")


@pytest.fixture(scope="session")
def lab(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts with H200s and a state repository, for the whole run; gone afterwards whatever happened."""
    with labs.running(tmp_path_factory.mktemp("lab"), hosts=3, progress=progress) as booted:
        scaffold.write(booted)
        yield booted


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    """The first host, without faults, containers or GPU memory in use before and after the test."""
    first = lab.machine("lab-1")
    clean(first)
    yield first
    clean(first)


def clean(machine: Machine) -> None:
    """Take a host back to how it booted: nothing of recon, no container, no fault. Quick when there is nothing."""
    machine.heal()
    if any(any(machine.path(place).glob(pattern)) for place, pattern in TRACES):
        machine.run(["systemctl", "stop", "--", "recon-*"], check=False)
        machine.run(["podman", "rm", "--all", "--force", "--time", "0"])
        remains = [str(path) for place, pattern in OURS for path in machine.path(place).glob(pattern)]
        root = str(machine.path("/"))
        machine.run(["rm", "-rf", "--", *("/" + path.removeprefix(root).lstrip("/") for path in remains)])
        machine.run(["systemctl", "daemon-reload"])
        machine.run(["systemctl", "reset-failed"])
    machine.heal()


def clean_all(lab: Lab) -> None:
    """Take every host of a lab back to how it booted, all at once."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(clean, lab.machines))


OURS = (
    ("/etc", "recon"),
    ("/run", "recon*"),
    ("/var/lib", "recon*"),
    ("/etc/systemd/system", "**/recon-*"),
    ("/etc/containers/systemd", "*"),
    ("/run/containers/systemd", "*"),
    ("/run/systemd/system", "**/recon-*"),
)
"""Where recon leaves files on a host: directory and pattern."""

TRACES = (
    *OURS,
    ("/var/lib/containers/storage/overlay-containers", "*/userdata"),
    ("/run/systemd/transient", "recon-*"),
)

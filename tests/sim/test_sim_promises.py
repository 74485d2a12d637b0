"""The disk's promises, and that each fault which was planted in how they are kept is noticed."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.agent import durable
from reconciler.agent.durable import DurableMachine
from tests.sim.promises import DEEDS, Deed, broken_promises


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.name)
def test_a_change_of_the_disk_keeps_its_promises_wherever_it_is_cut_or_killed_or_told_of_an_error(deed: Deed) -> None:
    assert broken_promises(deed) == []


def _no_sync(machine: DurableMachine, path: str) -> None: ...


def _write_in_place(machine: DurableMachine, path: str, data: bytes, mode: int = 0o644) -> None:
    with contextlib.suppress(OSError):
        machine.system.unlink(path)
    machine.append(path, data)


def _write_unsynced(machine: DurableMachine, path: str, data: bytes, mode: int = 0o644) -> None:
    directory, name = posixpath.split(path)
    temporary = machine._temporary(directory, name)
    fd = machine.system.open(temporary, durable._NEW)
    machine._write_all(fd, data)
    machine.system.close(fd)
    machine.system.rename(temporary, path)
    machine._sync_directory(directory)


def _write_syncing_again(machine: DurableMachine, path: str, data: bytes, mode: int = 0o644) -> None:
    directory, name = posixpath.split(path)
    temporary = machine._temporary(directory, name)
    fd = machine.system.open(temporary, durable._NEW)
    machine._write_all(fd, data)
    try:
        machine.system.fsync(fd)
    except OSError:
        machine.system.fsync(fd)
    machine.system.close(fd)
    machine.system.rename(temporary, path)
    machine._sync_directory(directory)


def _append_unsynced(machine: DurableMachine, path: str, data: bytes) -> None:
    fd = machine.system.open(path, durable._MORE, 0o644)
    machine._write_all(fd, data)
    machine.system.close(fd)
    machine._sync_directory(posixpath.dirname(path))


def _append_syncing_only_what_it_made(machine: DurableMachine, path: str, data: bytes) -> None:
    is_new = not machine.system.lexists(path)
    fd = machine.system.open(path, durable._MORE, 0o644)
    machine._write_all(fd, data)
    machine.system.fsync(fd)
    machine.system.close(fd)
    if is_new:
        machine._sync_directory(posixpath.dirname(path))


def _link_after_removing(machine: DurableMachine, target: str, path: str) -> None:
    with contextlib.suppress(OSError):
        machine.system.unlink(path)
    machine.system.symlink(target, path)
    machine._sync_directory(posixpath.dirname(path))


def _mkdir_believing(machine: DurableMachine, path: str, mode: int = 0o755) -> None:
    if machine.system.isdir(path):
        return
    machine.mkdir(posixpath.dirname(path))
    machine.system.mkdir(path, mode)
    machine._sync_directory(posixpath.dirname(path))


def _remove_believing(machine: DurableMachine, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        machine.system.unlink(path)
        machine._sync_directory(posixpath.dirname(path))


PLANTED: dict[str, tuple[str, Callable[..., Any]]] = {
    "no directory is synced": ("_sync_directory", _no_sync),
    "a file is written in place": ("write", _write_in_place),
    "a file is renamed before it is synced": ("write", _write_unsynced),
    "a sync that failed is tried again": ("write", _write_syncing_again),
    "what is appended is not synced": ("append", _append_unsynced),
    "a journal that is there is believed to be on the disk": ("append", _append_syncing_only_what_it_made),
    "a link is removed before it is made anew": ("symlink", _link_after_removing),
    "a directory that is there is believed to be on the disk": ("mkdir", _mkdir_believing),
    "a file that is gone is believed to be gone from the disk": ("remove", _remove_believing),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_planted_in_how_the_disk_is_changed_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, fault = PLANTED[name]
    monkeypatch.setattr(DurableMachine, method, fault)

    assert [broken for deed in DEEDS for broken in broken_promises(deed)] != []

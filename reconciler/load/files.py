"""Reads the files of the state repository, and only those: regular, small, UTF-8, one per object.

A repository under review is somebody's proposal. A symbolic link could show a secret of the machine that validates it,
a FIFO would block it for ever, a device would never end; so nothing is opened that is not a plain file.

Must not: know YAML, know what a file means.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import DesiredStateError, Problem, Where
from reconciler.load.codes import problem

MAX_FILE_BYTES = 1 << 20
YAML_SUFFIXES = (".yaml", ".yml")
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff", b"\xff\xfe\x00\x00")
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Entry:
    """One YAML file that defines the object named like it."""

    name: str
    path: str
    file: str


def read_text(path: str | Path, file: str) -> str:
    """Read one file as text.

    Args:
        path: where it is.
        file: what it is called in messages, relative to the repository.

    Raises:
        DesiredStateError: it cannot be read, is not a regular file, too large, or not UTF-8 without byte order mark.
    """
    try:
        # O_NONBLOCK: opening a FIFO for reading would otherwise wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DesiredStateError(_cannot_open(path, file, error)) from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise DesiredStateError(not_regular(file))
        # One byte more than it should have, so that a file which grows meanwhile is noticed.
        data = os.read(descriptor, min(about.st_size, MAX_FILE_BYTES) + 1)
        if len(data) > about.st_size:
            data += os.read(descriptor, MAX_FILE_BYTES)
    except OSError as error:
        raise DesiredStateError(_cannot_open(path, file, error)) from error
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        detail = f"it has more than {MAX_FILE_BYTES} bytes"
        raise DesiredStateError(problem("REC1003", Where(file), detail, "split it, or remove what does not belong"))
    return _decode(data, file)


def list_objects(folder: Path, label: str, problems: list[Problem]) -> tuple[Entry, ...]:
    """List the YAML files of a folder, sorted by name; a folder that is not there has none."""
    entries: dict[str, Entry] = {}
    for item in _scan(folder, label, problems):
        stem, suffix = os.path.splitext(item.name)  # noqa: PTH122 - ten thousand Path objects cost 30 ms
        file = f"{label}/{item.name}"
        if item.is_dir(follow_symlinks=False):
            problems.append(_misplaced(file + "/", f"{label}/ holds files, not folders", f"move its files to {label}/"))
        elif suffix not in YAML_SUFFIXES:
            continue
        elif _folded(stem) in entries:
            first = entries[_folded(stem)]
            problems.append(_same_object(first, Entry(stem, item.path, file)))
        else:
            entries[_folded(stem)] = Entry(stem, item.path, file)
    return tuple(entries.values())


def list_strays(folder: Path, label: str, *, known: tuple[str, ...], problems: list[Problem]) -> None:
    """Report YAML files and folders that nothing would read: a typo must not pass for an empty desired state."""
    for item in _scan(folder, label, problems):
        file = f"{label}/{item.name}"
        if item.name in known:
            continue
        if item.is_dir(follow_symlinks=False):
            problems.append(
                _misplaced(
                    file + "/",
                    "recon reads only the folders hosts, covens and workloads",
                    f"rename it, or move it out of {label}/",
                )
            )
        elif item.name.endswith(YAML_SUFFIXES):
            problems.append(
                _misplaced(
                    file,
                    f"directly in {label}/ recon reads fleet.yaml alone",
                    f"move it to {label}/hosts/ or {label}/covens/",
                )
            )


def not_regular(file: str) -> Problem:
    """Say that a path is a link, pipe, device or folder."""
    return problem(
        "REC1024",
        Where(file),
        "it is a symbolic link, pipe, device or folder; a link could point anywhere on the machine that reads it",
        "put a plain file there",
    )


def _scan(folder: Path, label: str, problems: list[Problem]) -> Iterator[os.DirEntry[str]]:
    try:
        if folder.is_symlink():
            problems.append(not_regular(label))
            return
        with os.scandir(folder) as items:
            listed = sorted((item for item in items if not item.name.startswith(".")), key=lambda item: item.name)
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(_cannot_open(folder, label, error))
        return
    yield from listed


def _folded(stem: str) -> str:
    """Fold what a case-blind file system or a look-alike letter would make equal."""
    return stem if stem.isascii() and stem.islower() else unicodedata.normalize("NFKC", stem).casefold()


def _same_object(first: Entry, second: Entry) -> Problem:
    if first.name == second.name:
        detail = f"{first.file} defines '{first.name}' too, and nothing says which of them counts"
        return problem("REC1025", Where(second.file), detail, f"keep one of {first.file} and {second.file}")
    detail = f"without regard to case and letter forms it is the same name as {first.file}"
    return problem("REC3003", Where(second.file), detail, "rename one of them")


def _misplaced(file: str, detail: str, fix: str) -> Problem:
    return problem("REC2036", Where(file), detail, fix)


def _cannot_open(path: str | Path, file: str, error: OSError) -> Problem:
    if Path(path).is_symlink() or Path(path).is_dir():
        return not_regular(file)
    return problem("REC1030", Where(file), f"{error.strerror}", "check that the file is there and may be read")


def _decode(data: bytes, file: str) -> str:
    if data.startswith(_WIDE_MARKS) or data.startswith(_UTF8_MARK):
        kind = "UTF-8" if data.startswith(_UTF8_MARK) else "UTF-16 or UTF-32"
        raise DesiredStateError(
            problem("REC1002", Where(file, 1, 1), f"it starts with the mark of {kind}", "save it as UTF-8 without BOM")
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        where = Where(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        detail = f"byte {error.start} (0x{data[error.start]:02x}) is not part of a character"
        raise DesiredStateError(problem("REC1001", where, detail, "save the file as UTF-8")) from error

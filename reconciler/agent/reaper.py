"""Retention by budget: which files below the declared directories go, oldest first, and how each is taken away.

    scan: count all, keep the oldest few     over a budget?  ─▶ the oldest goes; still over? ─▶ the next …
    before each: down to its directory again from /, no link followed, no mount crossed; still that file? not written?

A scan never holds more than `BATCH` files, however many there are; when more must go than that, it scans again from
where it was. Order is by time of change, then by name. Only plain files go: links, sockets and devices are counted as
left alone, and directories stay, for a loop may be about to write into one.

Must not: touch anything by a path, or anything that is not below the directories it was given.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from . import fact
from .machine import Directory, Entry, Machine
from .plain import clean

BATCH = 100_000
SHOWN = 200
YOUNG_S = 60.0
"""A file that changed this lately is somebody's work, whatever the budget says."""
LOOK_AT_CLOCK_EVERY = 256
"""Of so many files, one is preceded by a look at the clock."""
_DEEPEST = 64
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class TooManyError(Exception):
    """There was no time to count them all."""


class Budget(NamedTuple):
    """What may stay; None is no bound."""

    most_bytes: Optional[int]
    most_age_s: Optional[float]
    most_files: Optional[int]


class Found(NamedTuple):
    """A file by where it lies: its root, the directories on the way, its own name. Sorts oldest first."""

    mtime_ns: int
    root: int
    way: Tuple[bytes, ...]
    name: bytes
    size: int
    identity: Tuple[int, int]
    links: int


class Stay:
    """What is there now: counted by a scan, and less with every file that goes."""

    def __init__(self) -> None:
        self.files = 0
        self.size = 0
        self.others = 0
        # For a file of several names: how many of them are left here, and how many there were.
        self._names: Dict[Tuple[int, int], List[int]] = {}

    def count(self, entry: Entry) -> None:
        """Count a file; one of several names takes its room once."""
        self.files += 1
        if entry.links > 1:
            names = self._names.get((entry.device, entry.inode))
            if names is not None:
                names[0] += 1
                names[1] += 1
                return
            if len(self._names) < BATCH:
                self._names[entry.device, entry.inode] = [1, 1]
        self.size += entry.size

    def drop(self, file: Found) -> int:
        """Take a file out of the count and return the bytes that the disk gets back for it."""
        self.files -= 1
        names = self._names.get(file.identity)
        if names is not None:
            names[0] -= 1
            if names[0]:
                return 0
        self.size -= file.size
        seen = 1 if names is None else names[1]
        return file.size if seen >= file.links else 0


class Reaping:
    """One round over the declared directories. `go`: whether files really go, or it is only said which would."""

    def __init__(self, machine: Machine, paths: Sequence[str], budget: Budget, *, go: bool, ends: float) -> None:
        self._machine = machine
        self._paths = list(paths)
        self._budget = budget
        self._go = go
        self._ends = ends
        self._now_ns = int(machine.wall() * 1e9)
        self.stay = Stay()
        self.found: Dict[str, int] = {}
        self.gone_files = 0
        self.gone_size = 0
        self.is_cut_short = False
        self.listed: List[Dict[str, Any]] = []
        self.skipped: List[Dict[str, str]] = []
        self.skipped_files = 0
        self.lost: List[Dict[str, str]] = []
        """The declared directories that it did not get into, each with why: nothing of them is counted."""

    def run(self) -> Dict[str, Any]:
        """Do it, and return what came of it."""
        after: Optional[Found] = None
        while True:
            batch = self._scan(after)
            if after is None:
                self.found = {"files": self.stay.files, "bytes": self.stay.size, "others": self.stay.others}
            if not self._take(batch) or len(batch) < BATCH:
                break
            after = batch[-1]
        return {
            "go": self._go,
            "found": self.found,
            "gone": {"files": self.gone_files, "bytes": self.gone_size},
            "stay": {"files": self.stay.files, "bytes": self.stay.size},
            "listed": self.listed,
            "skipped": self.skipped,
            "skipped_files": self.skipped_files,
            "more": self.is_cut_short,
        }

    # -- counting ---------------------------------------------------------------------------------------------------

    def _scan(self, after: Optional[Found]) -> List[Found]:
        """Return the oldest files in order, those that come after one of them; the first scan counts all of them."""
        batch: List[Found] = []
        youngest: Optional[Found] = None
        for number, (file, entry) in enumerate(self._files(is_first=after is None), 1):
            if number % LOOK_AT_CLOCK_EVERY == 0 and self._machine.monotonic() >= self._ends:
                if after is None:
                    raise TooManyError(f"{number} files were counted, and there are more")
                self.is_cut_short = True
                return []
            if after is None:
                self.stay.count(entry)
            if (after is not None and file <= after) or (youngest is not None and file > youngest):
                continue
            batch.append(file)
            if len(batch) >= 2 * BATCH:
                batch.sort()
                del batch[BATCH:]
                youngest = batch[-1]
        batch.sort()
        return batch[:BATCH]

    def _files(self, *, is_first: bool) -> Iterator[Tuple[Found, Entry]]:
        for root, path in enumerate(self._paths):
            try:
                top = self._machine.open_directory(path)
            except OSError as error:
                if is_first:
                    self._lose(path, _reason(error))
                continue
            try:
                yield from self._below(root, top, (), top.mount, is_first=is_first)
            except OSError as error:
                if is_first:
                    self._lose(path, _reason(error))
            finally:
                top.close()

    def _below(
        self, root: int, here: Directory, way: Tuple[bytes, ...], mount: int, *, is_first: bool
    ) -> Iterator[Tuple[Found, Entry]]:
        for entry in here.entries():
            if entry.kind == "dir":
                try:
                    yield from self._inside(root, here, (*way, entry.name), mount, is_first=is_first)
                except OSError as error:
                    # What vanished, or is a link by now, is not ours.
                    if is_first and error.errno not in _GONE:
                        self._skip(self._shown(root, (*way, entry.name)), _reason(error))
            elif entry.kind == "file":
                identity = (entry.device, entry.inode)
                yield Found(entry.mtime_ns, root, way, entry.name, entry.size, identity, entry.links), entry
            elif is_first:
                self.stay.others += 1

    def _inside(
        self, root: int, here: Directory, way: Tuple[bytes, ...], mount: int, *, is_first: bool
    ) -> Iterator[Tuple[Found, Entry]]:
        below = here.open(way[-1])
        try:
            if below.mount != mount:
                raise OSError(errno.EXDEV, "something is mounted there")
            if len(way) > _DEEPEST:
                raise OSError(errno.ENAMETOOLONG, f"deeper than {_DEEPEST} directories")
            yield from self._below(root, below, way, mount, is_first=is_first)
        finally:
            below.close()

    # -- taking away ------------------------------------------------------------------------------------------------

    def _take(self, batch: List[Found]) -> bool:
        """Let files go until what stays is within the budget; say whether it is still not when the batch ends."""
        for number, file in enumerate(batch):
            if number % LOOK_AT_CLOCK_EVERY == 0 and self._machine.monotonic() >= self._ends:
                self.is_cut_short = self._why(file) is not None
                return False
            why = self._why(file)
            if why is None:
                return False
            path = self._shown(file.root, (*file.way, file.name))
            if abs(self._now_ns - file.mtime_ns) < YOUNG_S * 1e9:
                self._skip(path, "changed less than a minute ago")
                continue
            problem = self._remove(file) if self._go else ""
            if problem is None:
                self.stay.drop(file)
            elif problem:
                self._skip(path, problem)
            else:
                size = self.stay.drop(file)
                self.gone_files += 1
                self.gone_size += size
                if len(self.listed) < SHOWN:
                    self.listed.append({"path": path, "bytes": size, "at": file.mtime_ns / 1e9, "why": why})
        return True

    def _why(self, file: Found) -> Optional[str]:
        age_s = (self._now_ns - file.mtime_ns) / 1e9
        if self._budget.most_age_s is not None and age_s > self._budget.most_age_s:
            return "age"
        if self._budget.most_files is not None and self.stay.files > self._budget.most_files:
            return "count"
        if self._budget.most_bytes is not None and self.stay.size > self._budget.most_bytes:
            return "bytes"
        return None

    def _remove(self, file: Found) -> Optional[str]:
        """Take a file away: "" when it is gone by us, None when it was gone, else why it stays."""
        try:
            place = self._reach(file)
        except OSError as error:
            return None if error.errno in _GONE else _reason(error)
        try:
            if place.is_written(file.name):
                return "is being written"
            now = place.entry(file.name)
            if now is None:
                return None
            if (now.kind, now.device, now.inode, now.mtime_ns) != ("file", *file.identity, file.mtime_ns):
                return "is not the file any more that was looked at"
            place.unlink(file.name)
        except OSError as error:
            return None if error.errno == errno.ENOENT else _reason(error)
        finally:
            place.close()
        return ""

    def _reach(self, file: Found) -> Directory:
        """Go down to the directory of a file again: whatever was open since the scan may be somewhere else by now."""
        here = self._machine.open_directory(self._paths[file.root])
        mount = here.mount
        try:
            for name in file.way:
                below = here.open(name)
                here.close()
                here = below
            if here.mount != mount:
                raise OSError(errno.EXDEV, "something is mounted there")
        except BaseException:
            here.close()
            raise
        return here

    def _lose(self, path: str, why: str) -> None:
        self.lost.append({"path": clean(path), "why": why})
        self._skip(path, why)

    def _skip(self, path: str, why: str) -> None:
        self.skipped_files += 1
        if len(self.skipped) < SHOWN:
            self.skipped.append({"path": path, "why": why})

    def _shown(self, root: int, way: Tuple[bytes, ...]) -> str:
        return clean(b"/".join((os.fsencode(self._paths[root]), *way)))


def _reason(error: OSError) -> str:
    return clean(error.strerror or fact.why(error))

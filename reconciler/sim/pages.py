"""What of a simulated disk is only in memory: pages of files, and names in directories, that nobody synced yet.

The tree of `files` is what programs see. Here is what a power cut leaves of it: each page that was not synced is kept
or not, each name that was made, moved or removed is so or not, and luck says which. A page that failed to sync counts
as clean from then on, whatever became of it.

Must not: know which program changes what, or be saved: a machine that is put away has written everything back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from reconciler.sim.files import Files
from reconciler.sim.state import Node

PAGE = 4096

Luck = Callable[[], float]
"""A number in [0, 1): below one half what was not synced survives."""


@dataclass
class _Inode:
    """A file of which the disk has something else than memory."""

    node: Node
    data: bytes
    mode: int
    dirty: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)


@dataclass
class _Entry:
    """One change of names that happens as a whole; `made` says what each path then is, None when it is nothing."""

    made: dict[str, Node | None]
    places: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.places = {_place(path) for path in self.made}


class Pages:
    """What is not on the disk yet."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._inodes: dict[int, _Inode] = {}
        self._entries: list[_Entry] = []
        self._before: dict[str, Node | None] = {}

    @property
    def is_clean(self) -> bool:
        """Say whether a power cut would change nothing."""
        return not self._entries and not self._inodes

    def change(self, made: dict[str, Node | None]) -> None:
        """Change names in memory, all at once: what is not None is put there, what is None is taken away."""
        for path, node in made.items():
            self._before.setdefault(path, self._files.at(path))
            self._files.place(path, node)
        self._entries.append(_Entry(made))

    def dirty(self, node: Node, data: bytes, start: int) -> None:
        """Give a file other bytes in memory, which differ from those before from `start` on."""
        inode = self._inode(node)
        last = max(len(data) - 1, start) // PAGE
        inode.dirty.update(range(start // PAGE, last + 1))
        inode.lost -= inode.dirty
        node.hold(data)

    def chmod(self, node: Node, mode: int) -> None:
        """Give a file another mode in memory."""
        self._inode(node)
        node.mode = mode

    def sync(self, node: Node) -> None:
        """Bring what is dirty of a file to the disk."""
        inode = self._inodes.get(id(node))
        if inode is None:
            return
        if not inode.lost:
            del self._inodes[id(node)]
            return
        inode.data, inode.mode = _mixed(inode, inode.dirty, len(node.data)), node.mode
        inode.dirty.clear()

    def fail(self, node: Node, luck: Luck) -> None:
        """Fail to sync a file: what is dirty of it reaches the disk or not, and counts as clean."""
        inode = self._inodes.get(id(node))
        if inode is None:
            return
        kept = {page for page in sorted(inode.dirty) if luck() < 0.5}  # an even chance
        inode.data = _mixed(inode, kept, _size(inode, luck))
        inode.lost |= inode.dirty - kept
        inode.dirty.clear()

    def sync_directory(self, directory: str) -> None:
        """Bring the names in a directory to the disk, and the other half of what was moved from or to it."""
        if not self._entries:
            return
        done = [
            entry
            for entry in self._entries
            if directory in entry.places and any(_place(path) == directory for path in entry.made)
        ]
        if len(done) == len(self._entries):
            self._entries.clear()
            self._before.clear()
            return
        if not done:
            return
        for entry in done:
            position = self._entries.index(entry)
            for earlier in self._entries[:position]:
                for path in entry.made:
                    earlier.made.pop(path, None)
            self._forget_below([path for path, node in entry.made.items() if node is None], position)
            self._entries.remove(entry)
            self._before.update(entry.made)
        self._tidy()

    def _forget_below(self, gone: list[str], position: int) -> None:
        """Forget what was changed in directories before they were gone for good: another one of that name has none."""
        for path in gone:
            for earlier in self._entries[:position]:
                for below in [name for name in earlier.made if name.startswith(path + "/")]:
                    del earlier.made[below]
                    self._before[below] = None

    def cut(self, luck: Luck) -> None:
        """Lose power: let luck say what the disk has of all that was not synced."""
        found = dict(self._before)
        expected = dict(self._before)
        for entry in self._entries:
            expected.update(entry.made)
            if luck() < 0.5:  # an even chance
                found.update(entry.made)
        for inode in self._inodes.values():
            kept = {page for page in sorted(inode.dirty) if luck() < 0.5}  # an even chance
            size = _size(inode, luck) if inode.dirty else len(inode.data)
            inode.node.hold(_mixed(inode, kept, size))
            inode.node.mode = inode.mode
            self._files.touch(inode.node)
        for path in sorted(found):
            # What stands there now is not what these changes made it: somebody else changed it since, at once.
            if self._files.at(path) is expected[path]:
                is_anywhere = self._files.at(_place(path)) is not None
                # A name that was to be taken away is still there, and nobody finds it: its directory is gone.
                self._files.place(path, found[path] if is_anywhere else None)
        self._drop_orphans(found)
        self.forget()

    def forget(self) -> None:
        """Take what is in memory for what is on the disk."""
        self._inodes.clear()
        self._entries.clear()
        self._before.clear()

    def _inode(self, node: Node) -> _Inode:
        return self._inodes.setdefault(id(node), _Inode(node, node.data, node.mode))

    def _tidy(self) -> None:
        if not self._entries:
            self._before.clear()
            return
        self._entries = [entry for entry in self._entries if entry.made]
        pending = {path for entry in self._entries for path in entry.made}
        self._before = {path: node for path, node in self._before.items() if path in pending}

    def _drop_orphans(self, paths: Iterable[str]) -> None:
        for path in paths:
            if self._files.at(path) is None:
                self._files.drop_below(path)


def _place(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _mixed(inode: _Inode, kept: set[int], size: int) -> bytes:
    """Return a file of a size whose kept pages are those in memory, and the others those on the disk, or zeros."""
    memory, disk = inode.node.data, inode.data
    parts = []
    for page in range((size + PAGE - 1) // PAGE):
        at = slice(page * PAGE, min((page + 1) * PAGE, size))
        part = (memory if page in kept else disk)[at]
        parts.append(part.ljust(at.stop - at.start, b"\0"))
    return b"".join(parts)


def _size(inode: _Inode, luck: Luck) -> int:
    """Choose how long a file is on the disk: as in memory, as it was, or cut anywhere between."""
    new, old = len(inode.node.data), len(inode.data)
    chance = luck()
    if chance < 1 / 3:
        return new
    if chance >= 2 / 3:
        return old
    return min(new, old) + int(luck() * abs(new - old))

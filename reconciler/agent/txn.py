"""One transaction while it runs: the intent, the machine, the journal, the claim, and how far it has come.

Must not: do any step itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable, Dict, List, Optional, Set

from . import places
from .adoptee import Adoptee
from .fence import Fenced
from .journal import Journal
from .lease import Lease, LeaseError
from .machine import Machine
from .plain import clean

_NEWS_S = 5.0
_ROOM = "room"
_ROOM_BYTES = 256 << 10
_SAME_S = 30.0


class HaltError(Exception):
    """A step cannot go on.

    `state` names the outcome when nothing was changed yet (refused, stale, locked, aborted); without it the
    transaction is rolled back. `units` are those whose logs tell more.
    """

    def __init__(self, code: str, reason: str, *, fix: str = "", state: Optional[str] = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.fix = fix
        self.state = state
        self.units: List[str] = []
        # Whether starting again may help: what came up did not stay, or did not answer as it should.
        self.again = False
        # Whether something was given up that did not come up.
        self.gave_up = False


class Run:
    """The state of one executor run. Steps read and write it; nothing of it outlives the process but the journal."""

    def __init__(self, machine: Machine, intent: Dict[str, Any], journal: Journal) -> None:
        self.machine = Fenced(machine)
        self.intent = intent
        self.journal = journal
        self._lease: Optional[Lease] = None
        self.state: Dict[str, Any] = {}
        self.old_generation: Optional[int] = None
        self.new_generation: Optional[int] = None
        # Slots whose old side was disturbed; residents and orphans that were; the way back looks at these.
        self.touched: Set[str] = set()
        # Members that were told to take no new work, by unit.
        self.paused: Dict[str, Dict[str, Any]] = {}
        self.orphans: List[str] = []
        self.residents: List[Dict[str, Any]] = []
        self.was_up: List[str] = []
        self.on_trial = False
        # What of somebody else is taken over, by name, as it was when the host was claimed.
        self.adoptees: Dict[str, Adoptee] = {}
        # The commit was made, and was told to be on the disk.
        self.is_durable = False
        self.steps_s: Dict[str, float] = {}
        self.logs: Dict[str, List[str]] = {}
        # As `model.outcome.Attempts`, one for each thing that was brought up or back.
        self.attempts: List[Dict[str, Any]] = []
        self.started_at = machine.wall()
        self.started = machine.monotonic()
        self._told = ("", self.started)
        self._now = ("claim", None)  # type: tuple[str, Optional[str]]

    @property
    def txid(self) -> str:
        """Return the name of this transaction."""
        return str(self.intent["txid"])

    @property
    def lease(self) -> Optional[Lease]:
        """Return the claim, None before there is one."""
        return self._lease

    @lease.setter
    def lease(self, lease: Optional[Lease]) -> None:
        self._lease = lease
        self.machine.hold(lease)

    @property
    def is_disturbed(self) -> bool:
        """Say whether anything that runs, or systemd's view of it, may differ from before."""
        return bool(self.touched or self.orphans or self.residents or self.on_trial)

    @property
    def directory(self) -> str:
        """Return the directory of the generation that this transaction makes."""
        if self.new_generation is None:
            raise RuntimeError("no generation was staged")
        return places.generation(self.new_generation)

    def take_room(self) -> None:
        """Keep room for the end of this transaction: a disk that fills up meanwhile must not leave it without one."""
        self.machine.write(f"{places.transaction(self.txid)}/{_ROOM}", b"\0" * _ROOM_BYTES, 0o600)

    def give_room(self) -> None:
        """Free the room that was kept; to be called before the way back and before the outcome is written."""
        with contextlib.suppress(OSError):
            self.machine.remove(f"{places.transaction(self.txid)}/{_ROOM}")

    def with_claim(self, what: str, deed: Callable[["Run"], str]) -> str:
        """Do what only the holder of the claim may, at the end; returns what is in the way, in words."""
        try:
            with self.machine.raised():
                return deed(self)
        except (HaltError, LeaseError) as error:  # the claim is somebody else's by now, and so is what it is about
            return f"{what} is left to who has the host: {clean(str(error), 300)}"

    @contextlib.contextmanager
    def step(self, name: str, text: str, slot: Optional[str] = None, *, guarded: bool = True) -> Iterator[None]:
        """Announce a step, prove the claim, time what happens inside, and say how it ended.

        A step back (`guarded=False`) is a safety deed: it, and the steps inside it, may finish even when the claim is
        no longer ours. In every other step the machine itself asks for the claim before each change (`fence`).
        """
        before, self._now = self._now, (name, slot)
        began = self.machine.monotonic()
        self._told = ("", began)
        try:
            if guarded:
                self.prove_claim()
            with contextlib.nullcontext() if guarded else self.machine.lowered():
                self._enter(name, guarded)
                self._say(name, "begin", text, slot)
                yield
        except Exception as error:
            with contextlib.suppress(OSError):
                self.journal.say(name, "failed", str(error) or type(error).__name__, slot)
            raise
        else:
            self._say(name, "done", text, slot, optional=not guarded)
        finally:
            took = self.machine.monotonic() - began
            self.steps_s[name] = round(self.steps_s.get(name, 0.0) + took, 3)
            self._now = before

    def note(self, text: str, status: str = "progress") -> None:
        """Add a line to the journal inside the step that runs."""
        name, slot = self._now
        self._say(name, status, text, slot)

    def _say(self, step: str, status: str, text: str, slot: Optional[str], *, optional: bool = False) -> None:
        """Write a line of the journal. What is not announced must not be done, except for the way back."""
        try:
            self.journal.say(step, status, text, slot)
        except OSError:
            if not (optional or self.machine.is_lowered):
                raise

    def progress(self, text: str) -> None:
        """Note how a wait is going: what is new at most every five seconds, what is not only every thirty."""
        now = self.machine.monotonic()
        last, at = self._told
        if now - at >= (_SAME_S if text == last else _NEWS_S):
            self._told = (text, now)
            self.note(text)

    def prove_claim(self) -> None:
        """Stop when somebody else has claimed the host since; called right before what cannot be undone."""
        try:
            self.machine.prove()
        except LeaseError as error:
            raise HaltError("REC7113", str(error), fix="recon status") from error

    def _enter(self, name: str, guarded: bool) -> None:
        if self.lease is None:
            return
        try:
            self.lease.enter(name)
        except OSError:
            if guarded:
                raise


def stopping(move: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the members a move stops."""
    return _scope(move, move["old"])


def starting(move: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the members a move starts."""
    return _scope(move, move["new"])


def units_of(members: List[Dict[str, Any]]) -> List[str]:
    """Return the units of members, in order."""
    return [member["unit"] for member in members]


def known(fact: Any) -> Any:
    """Return the value of a fact, or None when it is unknown or not applicable."""
    return fact.get("value") if isinstance(fact, dict) else None


def _scope(move: Dict[str, Any], group: Optional[Dict[str, Any]]) -> List[Dict[str, Any]]:
    if group is None:
        return []
    members: List[Dict[str, Any]] = list(group["members"])
    if move["kind"] == "restart":
        return [member for member in members if member["service"] in move["restart"]]
    return members

"""What must hold on a host at every event and at every end, by number as in `INVARIANTS`.

All of it looks at the simulated machine itself (its files, processes, containers, GPU memory, the calls that were
made), and at none of the agent's own views of it: a fault in the agent must not blind those who watch it.

Must not: import anything of the agent's, or change the machine.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from typing import Any, NamedTuple

from reconciler.errors import ExitCode
from reconciler.model.outcome import Outcome, exit_code_of
from reconciler.sim.faults import fault_of
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Holding
from tests.volume.slots import SLOT_OF, SLOTS, SlotName, coven_of, on_slot, slot_of, slots_of

INVARIANTS = {
    1: "at most one coven has containers or GPU memory on a slot",
    2: "what boots is one committed generation, whole",
    3: "a coven starts only when the one before has no process left and its memory is back",
    5: "who lost the claim changes nothing more but to make it safe",
    6: "epochs only grow",
    7: "one executor at a time",
    8: "the commit is of a whole generation whose members were seen to be up, under the lock and the lease",
    9: "the end is what the outcome says",
    10: "there are nine ends, and the exit code is a function of the end",
    11: "a power cut leaves every change that was made, and of the one under way the old or the new",
    12: "a step is in the journal before it has an effect",
    14: "no process of others is ended",
    15: "nothing is written outside of recon's own places, and no unit of others is touched",
    20: "a plan of before a boot, or before another apply, is refused",
    21: "looking and planning change nothing, and what was applied needs nothing",
    23: "the generation before stays until the next commit",
    24: "the wall clock decides nothing",
    27: "every transaction that began has an end, within the sum of its deadlines and those of the way back",
    29: "when faults stop, one more apply brings the host where git wants it",
    30: "nothing of the spiral starts while a person has it down",
    31: "the GPU lane of the spiral does not run while a coven is brought up on its slot",
    32: "when faults stop, every end in the history has been told to the receiver, and an id always says the same",
    33: "when faults stop, the host comes by itself to what its windows say, whatever edges it missed",
    34: "a coven has memory on the GPUs of its slot alone",
    35: "a slot on which nothing failed serves what it served before, whatever became of the other slot",
    36: "while a slot or the host is locked or held, nobody without the token starts or stops a coven there",
}

COMMITTED = "/etc/containers/systemd/recon"
TRIAL = "/run/containers/systemd/recon-trial"
GENERATIONS = "/etc/recon/generations"
TRANSACTIONS = "/var/lib/recon/txn"
EPOCH = "/var/lib/recon/epoch"
LOCK = "/run/recon/lock"
LEASE = "/run/recon/lease.json"
_OURS = re.compile(
    r"/etc/recon/generations(/.*)?|/etc/containers/systemd/recon|/etc/systemd/system/recon-[^/]*(/[^/]*)?"
    r"|/etc/systemd/system/multi-user\.target\.wants/recon-boot\.target|/run/containers/systemd(/recon-trial)?"
    r"|/run/recon(/.*)?|/run/recon-gate-[a-z0-9-]+|/run/systemd/system/recon-[^/]*|/var/lib/recon(/.*)?|/etc/recon"
    r"|/etc/recon/down(/.*)?"
    # Links of ours are made in the directory above their own; what a cut left there is taken away.
    r"|/(etc|run)/(containers|systemd|systemd/system)/\.recon[^/]*\.recon-[0-9a-f]{12}"
)
_TEMPORARY = re.compile(r"/\.[^/]+\.recon-[0-9a-f]{12}\Z")
_SHARED = "/qdrant.service"
_UNIT = re.compile(r"recon-[a-z0-9-]+\.(service|target|timer)\Z")
_BESIDE = re.compile(r"recon-(events\.service|[a-z]+\.timer)\Z")
"""What is started beside a transition: a delivery, and timers with what brought them."""
_IN_GROUP = re.compile(r"/(recon-[^/]+\.service)(/|\Z)")
_STEP_OF = {
    "stop": {"stop", "rollback"},
    "start": {"start", "rollback"},
    "commit": {"commit"},
    "trial": {"trial"},
}
_DOWN_SPIRAL = "/etc/recon/down/spiral.json"
_LOOPS = "recon-spiral-"
_CPU_LANE = "recon-spiral-steerer.service"
_JOURNAL = "/journal.jsonl"
_WAY_BACK = "way back"
_UNGUARDED = ("launch", "claim", "rollback", "finish", "resume", _WAY_BACK)
"""Steps that come before the claim, or make safe what was begun: those may be finished without it."""

_DISK = ("/etc/recon", "/etc/containers/systemd", "/etc/systemd/system", "/var/lib/recon")
_NATIVE = "/etc/systemd/system/"
_BOOKS = ("/var/lib/recon", "/run/recon")
_EXIT = {
    "applied": ExitCode.OK,
    "nothing": ExitCode.OK,
    "refused": ExitCode.REFUSED,
    "aborted": ExitCode.REFUSED,
    "locked": ExitCode.LOCKED,
    "stale": ExitCode.STALE,
    "rolled_back": ExitCode.ROLLED_BACK,
    "held": ExitCode.HELD,
}
_DIED = "REC7116"
_QUIET = ("nothing", "refused", "stale", "locked", "aborted")


class Generation(NamedTuple):
    """A generation as it lies on the disk."""

    number: int
    txid: str
    live: tuple[str, ...]
    """The containers of the covens that it lets run."""
    judged: frozenset[tuple[str, str]]
    """Unit and config hash of every live member that can be asked for its health."""


def generation(machine: SimMachine, number: int) -> Generation | str:
    """Return a generation, or what is wrong with it: every file it names must be there with the bytes it names."""
    files, place = machine.files, f"{GENERATIONS}/{number}"
    try:
        body = _manifest(files.read(f"{place}/manifest.json"))
        if body is None:
            return "the manifest does not verify"
        for name, digest in body["files"].items():
            path = f"{place}/{name}" if name.endswith(".container") else f"{place}/units/{name}"
            if _sum_of_body(files.read(path)) != digest:
                return f"{name} is not what the manifest says"
        if files.listdir(f"{place}/boot.wants") != body["boot"]:
            return "what boots is not what the manifest says"
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    members = [m for g in body["groups"] if g["coven"] in body["live"].values() for m in g["members"]]
    return Generation(
        number=number,
        txid=body["txid"],
        live=tuple(sorted(member["unit"].removesuffix(".service") for member in members)),
        judged=frozenset((m["unit"], m["config_hash"]) for m in members if m["health"]),
    )


@functools.lru_cache(1024)
def _manifest(data: bytes) -> Any:
    """Return what a manifest says, None when it does not verify; errors are those of a document that is none."""
    document = json.loads(data)
    body = document["body"]
    whole = document["sha256"] == _sum(_canonical(body) + document.get("file", "").encode())
    return body if whole else None


@functools.lru_cache(1024)
def _sum_of_body(text: bytes) -> str:
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return _sum(text)


def committed(machine: SimMachine) -> int | None:
    """Return the number of the generation that boots."""
    try:
        name = machine.files.read_link(COMMITTED).rpartition("/")[2]
    except OSError:
        return None
    return int(name) if name.isdigit() else -1


def _is_whole_coven(unit: str, has_two: bool) -> bool:
    """Say whether a unit is the target of a coven on the slot on which the GPU lane of the spiral runs."""
    return unit.startswith("recon-coven-") and not (has_two and slot_of(unit) != SLOTS[0])


class Watch:
    """Looks at one machine at every change and at every event of its clock. `broken` is what did not hold."""

    def __init__(self, machine: SimMachine) -> None:
        self.machine = machine
        self.broken: list[str] = []
        self.reached: Counter[str] = Counter()
        self.foreign: set[int] = set()
        self.step = "-"
        self._is_finishing = False
        self.is_tampered = False
        """Somebody used systemctl beside recon: what starts then, and what runs, is not recon's doing."""
        self.is_damaged = False
        self.damaged: set[str] = set()
        """Files that were damaged, by their paths."""
        self._containers: tuple[str, ...] = ()
        self._loops_left: dict[int, str] | None = None
        self._mark = b""
        """Loops that ran when last somebody looked while a person had them down: there can only be fewer."""
        self._epochs: list[int] = []
        self._now = ""
        self.event = ""
        """The hook that is called, in the step of that name."""
        self.is_recovering = False
        """The executor that began the transaction is no more; another one brings it to an end."""
        self._strangers: Counter[str] = Counter()
        """By GPU, memory that others held when it was looked at last; what they took since, nobody could know."""
        self.kept: dict[str, tuple[str, float]] = {}
        """By the name of a lock or a hold: the slot, or nothing for the whole host, and until when it surely stands."""
        self.passes: dict[str, frozenset[str]] = {}
        """By transaction, the locks whose token came with it."""
        self._slots = {gpu.uuid: slot for gpu, slot in zip(machine.state.gpus, SLOTS, strict=False)}
        self.has_two = len(machine.state.gpus) > 1
        self._unsure: set[str] = set()
        """Paths of changes that were begun and did not end: whether they are on the disk, nobody was told."""
        self.begin("")

    def begin(self, txid: str) -> None:
        """Take note that an executor begins to work on a transaction."""
        self.txid = txid
        self.before = committed(self.machine)
        self.deeds: Counter[str] = Counter()
        self.step = "launch"
        self._is_finishing = False
        self.is_recovering = False
        self.began = self.machine.clock.now
        self.epoch: int | None = None
        self._is_going_back = False
        self._is_mute = False
        """The journal could not be written: from then on there is only the way back."""
        self._is_late = False
        """The line that began what is done now could not be written."""
        self.seen_up: set[tuple[str, str]] = set()
        self._started: set[SlotName] = set()
        """Slots on which something was started."""
        self.blind_since_stop = False
        self._see()

    def break_(self, number: int, text: str) -> None:
        """Write down that an invariant does not hold."""
        assert number in INVARIANTS
        if len(self.broken) < 10:
            self.broken.append(f"[{number}] {text} (step {self.step}, {self._now[:120]})")

    # -- at every event of the clock ---------------------------------------------------------------------------------

    def on_time(self) -> None:
        """Look at who runs; called after everything that happens by itself."""
        self._see_loops()
        now = tuple(self.machine.state.containers)
        if now != self._containers:
            self._see()
        else:
            self._see_up()

    def _loops(self) -> dict[int, str]:
        """Return the loops of the spiral that run, by process."""
        found = {}
        for process in self.machine.state.processes.values():
            match = _IN_GROUP.search(process.cgroup)
            if match and match[1].startswith(_LOOPS):
                found[process.pid] = match[1]
        return found

    def _see_loops(self) -> None:
        mark = self.machine.files.read(_DOWN_SPIRAL) if self.machine.files.stat(_DOWN_SPIRAL) else b""
        if mark != self._mark:
            # Lifted, or lifted and put again by somebody else in between two looks: what ran meanwhile was allowed to.
            self._mark, self._loops_left = mark, None
        if not mark:
            return
        loops = self._loops()
        for pid, unit in loops.items() if self._loops_left is not None else ():
            if pid not in (self._loops_left or {}):
                self.break_(30, f"{unit} began as process {pid}")
        self._loops_left = loops

    def _see(self) -> None:
        state = self.machine.state
        old, self._containers = set(self._containers), tuple(state.containers)
        covens = {coven for c in state.containers.values() if (coven := coven_of(c.unit))}
        for holding in state.holdings:
            coven = coven_of(holding.owner)
            if holding.pid and coven:
                covens.add(coven)
                if self.has_two and SLOT_OF[coven] != self._slots[holding.gpu]:
                    self.break_(34, f"{holding.owner} has memory on the GPU of slot {self._slots[holding.gpu]}")
        if len({SLOT_OF[coven] for coven in covens}) < len(covens):
            self.break_(1, f"{sorted(covens)} at once")
        for ident in self._containers:
            coven = coven_of(state.containers[ident].unit)
            if ident not in old and coven and not self.is_tampered:
                self._nobody_else(coven, f"{state.containers[ident].name} began")
        self._see_up()

    def _see_up(self) -> None:
        for container in self.machine.state.containers.values():
            if container.server is not None and container.server.phase == "ready":
                self.seen_up.add((container.unit, container.labels.get("io.recon.config-hash", "")))

    def _nobody_else(self, coven: str, what: str) -> None:
        for process in self.machine.state.processes.values():
            match = _IN_GROUP.search(process.cgroup)
            other = coven_of(match[1]) if match else None
            if other and other != coven and SLOT_OF[other] == SLOT_OF[coven]:
                self.break_(3, f"{what} while {match[1] if match else ''} has process {process.pid}")

    def _need(self, coven: str, units: list[str]) -> int:
        """Return how much memory of the GPU is to be taken: members that run have theirs."""
        state = self.machine.state
        up = {container.unit for container in state.containers.values()}
        wanted = [unit for unit in state.facts if coven_of(unit) == coven and unit not in up]
        if not any(unit.endswith(".target") for unit in units):
            wanted = [unit for unit in wanted if unit in units]
        return sum(state.facts[unit].memory for unit in wanted)

    def _has_room(self, slot: SlotName, need: int, units: list[str]) -> None:
        """What is to start fits beside what is held on its GPUs, also by processes that are gone."""
        state = self.machine.state
        gpus = {gpu.uuid for gpu in state.gpus if not self.has_two or self._slots[gpu.uuid] == slot}
        free = sum(gpu.total - gpu.reserved for gpu in state.gpus if gpu.uuid in gpus)
        free -= sum(holding.bytes for holding in state.holdings if holding.gpu in gpus)
        held = self._held_by_strangers()
        free += max(0, sum(held[gpu] - self._strangers[gpu] for gpu in gpus))
        if need > free:
            self.break_(3, f"{' '.join(units)} needs {need >> 20} MiB, {free >> 20} MiB are free")

    def _held_by_strangers(self) -> Counter[str]:
        def is_theirs(holding: Holding) -> bool:
            return not holding.pid and not holding.owner.startswith("recon-")

        held: Counter[str] = Counter()
        for holding in filter(is_theirs, self.machine.state.holdings):
            held[holding.gpu] += holding.bytes
        return held

    # -- at every change ---------------------------------------------------------------------------------------------

    def on_change(self, when: str, what: str) -> None:
        """Look at one call that changes the machine, right before and right after it."""
        self._now = f"{when} {what}"
        self.on_time()
        deed, _, rest = what.partition(" ")
        gone = self.foreign - self.machine.state.processes.keys()
        if gone:
            self.break_(14, f"{sorted(gone)} were ended")
            self.foreign -= gone
        self.foreign |= {each.pid for each in self.machine.state.processes.values() if each.cgroup.endswith(_SHARED)}
        if when == "before":
            if deed != "run":
                self._is_late |= rest in self._unsure and rest.endswith(_JOURNAL)
                self._unsure.add(rest)
            self._before(deed, rest)
        else:
            self._unsure.discard(rest)
            self._after(deed, rest)

    def beside(self, when: str, what: str) -> None:
        """Look at one change of a program of the host's own timers, which is no transaction."""
        deed, _, rest = what.partition(" ")
        if when != "before":
            return
        if deed != "run" and not _OURS.fullmatch(rest):
            self.break_(15, f"a timer did: {what}")
        words = rest.split(" ")
        if deed == "run" and words[0] == "systemctl":
            self.break_(15, f"a timer did: {what}")

    def by_watchdog(self, when: str, what: str) -> None:
        """Look at one change of the watchdog: it restarts members, and leaves alone what is locked or held."""
        self._now = f"{when} {what}"
        deed, _, rest = what.partition(" ")
        if when != "before":
            return
        if deed != "run" and not _OURS.fullmatch(rest):
            self.break_(15, f"the watchdog did: {what}")
        words = rest.split(" ")
        if deed != "run" or words[0] != "systemctl" or words[1] not in ("start", "stop", "kill", "restart"):
            return
        units = [word for word in words[2:] if not word.startswith("-") and not _BESIDE.match(word)]
        if any(coven_of(unit) and not unit.startswith(f"recon-{coven_of(unit)}-") for unit in units):
            self.break_(15, f"the watchdog did: {what}")
        self._let_be(units, frozenset())
        for slot in slots_of(units):
            self.reached["slots the watchdog acts"] += 1
            if self.kept_slots() - {slot}:
                self.reached["slots the watchdog acts beside a locked one"] += 1

    # -- what is locked or held --------------------------------------------------------------------------------------

    def kept_slots(self, passes: frozenset[str] = frozenset()) -> set[str]:
        """Return the slots that are locked, all for the whole host, but for the locks that are passed."""
        now = self.machine.clock.now
        kept = {slot for name, (slot, until) in self.kept.items() if now < until and name not in passes}
        return set(SLOTS) if "" in kept else kept

    def _let_be(self, units: list[str], passes: frozenset[str]) -> None:
        """Units of a slot that is locked or held are touched by nobody but who has the token."""
        kept = self.kept_slots(passes) if self.kept else ()
        for unit in units:
            if slot_of(unit) in kept:
                self.break_(36, f"{unit} is touched while {sorted(kept)} is kept from everybody")

    # -- at every change of a transaction ----------------------------------------------------------------------------

    def _before(self, deed: str, rest: str) -> None:
        # The hook of the way back is called on every way back, as the rest of it is.
        is_back = self.step in _UNGUARDED or (self.step == "hook" and self.event == "on_rollback")
        is_fenced = not self._is_mute and not is_back and not rest.startswith(_BOOKS)
        if is_fenced and not self._is_unstaged(deed, rest) and self._read_epoch() != self.epoch:
            self.break_(5, f"{deed} {rest} with epoch {self.epoch}, the host is at {self._read_epoch()}")
        if deed in ("append", "write") and rest.endswith(_JOURNAL):
            self._is_mute = True
        if deed == "run":
            self._program(rest.split(" "))
        elif not _OURS.fullmatch(rest):
            self.break_(15, f"{deed} {rest}")
        if deed == "symlink" and rest == COMMITTED:
            if not self._is_mine():
                self._announced("commit", rest)
            held = self.machine.is_locked(LOCK)
            if not held or not self._leased():
                self.break_(8, f"committed with lock {held} and lease {self._leased()}")
        elif deed == "symlink" and rest == TRIAL:
            self._announced("trial", rest)

    def _after(self, deed: str, rest: str) -> None:
        if deed == "append" and rest.endswith(_JOURNAL):
            self._is_mute = False
            self._journal(rest)
        elif deed == "run" and rest.startswith("systemctl st"):
            # The spiral yields before the coven is touched, and comes back also when that is then left alone.
            units = [word for word in rest.split(" ")[2:] if not word.startswith("-")]
            if not all(unit.startswith("recon-spiral") or _BESIDE.match(unit) for unit in units):
                self.deeds[rest.split(" ")[1]] += 1
        elif rest == EPOCH and deed == "write":
            self._new_epoch()
        elif rest == COMMITTED:
            self._new_commit()

    def _is_unstaged(self, deed: str, rest: str) -> bool:
        """Say whether this may be stage on its way back: it says that it failed when it has tidied up."""
        return self.step == "stage" and (deed.startswith("remove") or rest.startswith(_NATIVE) or deed == "run")

    def _program(self, words: list[str]) -> None:
        verb = words[1] if len(words) > 1 else ""
        if words[0] != "systemctl" or verb == "daemon-reload":
            if words[0] not in ("systemctl", "systemd-run", "podman"):
                self.break_(15, " ".join(words))
            return
        units = [word for word in words[2:] if not word.startswith("-")]
        if not all(_UNIT.match(unit) for unit in units):
            self.break_(15, " ".join(words))
        if verb not in ("start", "stop") or all(_BESIDE.match(unit) for unit in units):
            return
        self._announced(verb, " ".join(units))
        self._let_be(units, self.passes.get(self.txid, frozenset()))
        if verb == "start" and not self.is_tampered and any(_is_whole_coven(unit, self.has_two) for unit in units):
            lane = sorted(set(self._loops().values()) - {_CPU_LANE})
            if lane:
                self.break_(31, f"{' '.join(lane)} run while {' '.join(units)} is started")
        blind = fault_of(self.machine.state, "nvml", "*") is not None
        if verb == "stop":
            self.blind_since_stop = blind
            return
        self.blind_since_stop = self.blind_since_stop and blind
        self._started |= slots_of(units)
        covens = {coven for unit in units if (coven := coven_of(unit))}
        for coven in () if self.is_tampered else sorted(covens):
            self._nobody_else(coven, f"systemctl start {' '.join(units)}")
            self._has_room(SLOT_OF[coven], self._need(coven, units), units)
        needs_gpu = any(self._need(coven, units) for coven in covens)
        if needs_gpu and self.blind_since_stop and self.deeds["stop"]:
            self.break_(3, f"systemctl start {' '.join(units)} and no driver said that the memory is free")

    def _announced(self, kind: str, what: str) -> None:
        if all(unit.startswith("recon-spiral") for unit in what.split(" ")):
            # It yields before the coven stops, and comes back when all is done; a way back may do so without a word.
            if self.step not in ("spiral", _WAY_BACK) and not self._is_mute:
                self.break_(12, f"{kind} {what} under the step {self.step}")
            return
        if self._is_mute:
            before = {coven_of(name) for name in self.wanted() or ()}
            if kind == "stop" or (
                kind == "start" and ({coven_of(unit) for unit in what.split(" ")} <= before or not before)
            ):
                return
            self.break_(12, f"{kind} {what} although the journal could not be written")
        elif not {self.step, "rollback" if self._is_going_back else self.step} & _STEP_OF[kind]:
            self.break_(12, f"{kind} {what} under the step {self.step}")

    def _journal(self, path: str) -> None:
        line = json.loads(self.machine.files.read(path).rstrip(b"\n").rpartition(b"\n")[2])
        if path != f"{TRANSACTIONS}/{self.txid}/journal.jsonl":
            self.break_(7, f"a second transaction writes {path}")
        if line["status"] == "failed":
            self.step = _WAY_BACK
        elif line["status"] == "progress" and (self._is_late or self.step == _WAY_BACK):
            # The line that began it could not be written, and this one tells it: announced late, and before the deed.
            self.step = line["step"]
        elif line["status"] == "done" and line["step"] == "spiral" and self._is_finishing:
            # The spiral comes back in the middle of the last step, which goes on behind it.
            self.step = "finish"
        elif line["status"] == "begin":
            self.step = line["step"]
            self._is_finishing |= self.step == "finish"
            # A slot that was only drained serves again in the middle of it, which is a step of its own.
            self._is_going_back |= self.step == "rollback"
            self.event = line["text"].partition(" ")[0]
            if self.step == "verify_memory":
                self._strangers = self._held_by_strangers()
            self.reached[f"step {self.step}"] += 1
        self._is_late = False

    def _new_epoch(self) -> None:
        epoch = self._read_epoch()
        if self._epochs and epoch <= max(self._epochs) and not self.is_damaged:
            self.break_(6, f"epoch {epoch} after {max(self._epochs)}")
        self._epochs.append(epoch)
        self.epoch = epoch

    def epoch_was(self, epoch: int) -> None:
        """Take note of an epoch that somebody else took."""
        self._epochs.append(epoch)

    def _read_epoch(self) -> int:
        try:
            text = self.machine.files.read(EPOCH)
        except OSError:
            return 0
        return _epoch_in(text)

    def _new_commit(self) -> None:
        number = committed(self.machine)
        found = generation(self.machine, number or 0)
        if isinstance(found, str):
            self.break_(2, f"generation {number} was committed: {found}")
            return
        if found.txid != self.txid:
            self.break_(8, f"generation {number} of {found.txid} was committed by {self.txid}")
        unseen = found.judged - self.seen_up - self._left_alone(found)
        if unseen and not self.is_tampered:
            self.break_(8, f"committed and never up in this run: {sorted(unit for unit, _ in unseen)}")

    def _left_alone(self, found: Generation) -> frozenset[tuple[str, str]]:
        """Return the members that the generation before has too, on slots on which nothing was started, or that hang.

        Who runs as committed is not judged again beside a member that is restarted: one that hangs is the watchdog's.
        """
        earlier = generation(self.machine, self.before or 0)
        if not self.has_two or isinstance(earlier, str):
            return frozenset()
        return frozenset(
            (unit, told)
            for unit, told in found.judged & earlier.judged
            if slot_of(unit) not in self._started or self._hangs(unit)
        )

    def _hangs(self, unit: str) -> bool:
        servers = [one.server for one in self.machine.state.containers.values() if one.unit == unit]
        return any(server is not None and server.phase == "stuck" for server in servers)

    def has_interrupted(self) -> bool:
        """Say whether a transaction before this one began and has no end."""
        return any(txid != self.txid for txid in unfinished(self.machine))

    def _is_mine(self) -> bool:
        """Say whether the commit is this transaction's already: it may be made again, to be on the disk."""
        found = generation(self.machine, committed(self.machine) or 0)
        return isinstance(found, Generation) and found.txid == self.txid

    def _leased(self) -> bool:
        if self.is_damaged:
            # People read the lease; what orders claims is the epoch (5), and the lock is looked at beside this.
            return True
        try:
            found: dict[str, Any] = json.loads(self.machine.files.read(LEASE))["body"]
        except (OSError, ValueError, KeyError):
            return False
        return bool(found["txid"] == self.txid)

    # -- over a power cut --------------------------------------------------------------------------------------------

    def disk(self) -> dict[str, tuple[str, bytes]]:
        """Return what programs see of recon's files on the disk."""
        nodes = self.machine.state.files.items()
        return {path: (node.kind, node.data or node.target.encode()) for path, node in nodes if path.startswith(_DISK)}

    def power_came_back(self, before: dict[str, tuple[str, bytes]]) -> None:
        """Compare the disk with what programs saw of it before."""
        self._now = "after a power cut"
        after = self.disk()
        for path in sorted(path for path in {*before, *after} if before.get(path) != after.get(path)):
            if not self._is_unsure(path):
                was, became = before.get(path, ("nothing", b"")), after.get(path, ("nothing", b""))
                self.break_(11, f"{path} was {was[0]} of {len(was[1])} bytes, is {became[0]} of {len(became[1])}")
        self._unsure.clear()
        self.foreign.clear()

    def _is_unsure(self, path: str) -> bool:
        # What a change left under another name is nobody's, and nobody reads it.
        return bool(_TEMPORARY.search(path)) or any(
            path == unsure or path.startswith(unsure + "/") or unsure.startswith(path + "/") for unsure in self._unsure
        )

    # -- at the end --------------------------------------------------------------------------------------------------

    def is_whole(self) -> None:
        """What boots is a generation, all of it, and the one before it is there too."""
        self._now = "at the end"
        number = committed(self.machine)
        if number is None or self.is_damaged:
            return
        found = generation(self.machine, number)
        if isinstance(found, str):
            self.break_(2, f"generation {number} boots: {found}")
        if number != self.before and self.before is not None:
            earlier = generation(self.machine, self.before)
            if isinstance(earlier, str):
                self.break_(23, f"generation {self.before}: {earlier}")

    def wanted(self) -> tuple[str, ...] | None:
        """Return the containers that the committed generation wants, None when it does not say."""
        number = committed(self.machine)
        found = Generation(0, "", (), frozenset()) if number is None else generation(self.machine, number)
        return found.live if isinstance(found, Generation) else None

    def serves(self, running: tuple[str, ...]) -> None:
        """The committed coven runs, and no other."""
        self._now = "at the end"
        wanted = self.wanted()
        if wanted is not None and running != wanted:
            self.break_(9, f"{list(running)} run, generation {committed(self.machine)} says {list(wanted)}")

    def serves_beside(self, running: tuple[str, ...], before: tuple[str, ...], failed: set[SlotName]) -> None:
        """The slots on which nothing failed serve what they served before, and take work."""
        self._now = "at the end"
        for slot in set(SLOTS) - failed:
            if on_slot(running, slot) != on_slot(before, slot):
                was, now = list(on_slot(before, slot)), list(on_slot(running, slot))
                self.break_(35, f"only slot {', '.join(failed)} failed; on {slot} {now} run, before {was}")
        for container in self.machine.state.containers.values():
            its = slot_of(container.unit)
            if its and its not in failed and container.server is not None and container.server.paused:
                self.break_(35, f"only slot {', '.join(failed)} failed; {container.name} takes no work")

    def in_time(self, limit_s: float) -> None:
        """The transaction took no longer than all its deadlines and those of the way back together."""
        took = self.machine.clock.now - self.began
        if took > limit_s:
            self.break_(27, f"it took {took:.0f} s, its deadlines are {limit_s:.0f} s")

    def ended(self, outcome: Outcome) -> None:
        """The outcome is one of those there are, and tells what is so."""
        self._now = f"{outcome.state} {outcome.code} {outcome.reason}"
        self.reached[f"end {outcome.state}"] += 1
        if outcome.state not in _EXIT or exit_code_of((outcome,)) != _EXIT[outcome.state]:
            self.break_(10, f"{outcome.state} exits {exit_code_of((outcome,))}")
            return
        self.reached[f"exit {int(_EXIT[outcome.state])}"] += 1
        if outcome.state not in ("applied", "nothing") and not (outcome.code and outcome.fix):
            self.break_(10, f"code {outcome.code}, fix {outcome.fix}")
        number = committed(self.machine)
        if outcome.committed != number:
            self.break_(9, f"the outcome says {outcome.committed} is committed, it is {number}")
        if (outcome.state == "applied") != (number != self.before):
            self.break_(9, f"{outcome.state}, and generation {self.before} became {number}")
        if outcome.state == "applied" and COMMITTED in self._unsure and "left to tidy up" not in outcome.reason:
            self.break_(11, "applied, and nobody was told that the commit is on the disk")
        # Who ends what another one left tells what it finds: an old coven that was brought back serves as before.
        is_disturbed = self.deeds["stop"] or self.deeds["start"]
        if outcome.state in _QUIET and is_disturbed and not (outcome.state == "aborted" and outcome.code == _DIED):
            self.break_(9, f"{outcome.state} after {dict(self.deeds)}")


def unfinished(machine: SimMachine) -> list[str]:
    """Return the transactions that began and have no end."""
    files = machine.files
    names = files.listdir(TRANSACTIONS) if files.stat(TRANSACTIONS) else []
    return [
        name
        for name in names
        if files.stat(f"{TRANSACTIONS}/{name}/journal.jsonl") and not files.stat(f"{TRANSACTIONS}/{name}/outcome.json")
    ]


@functools.lru_cache(1024)
def _epoch_in(text: bytes) -> int:
    found = re.search(rb'"epoch":(\d+)', text) or re.match(rb"(\d+)\s*\Z", text)
    return int(found[1]) if found else -1


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

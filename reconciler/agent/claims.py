"""Who claims the host: the executor's lease, a person's hold, the transaction that runs or ran last.

Must not: take a claim, or read one that does not verify as "nobody".
"""

import contextlib
import json
from typing import Any, Dict, Optional

from . import fact, mark, places, transactions
from .executor_unit import running_txid
from .journal import is_of_an_earlier_boot
from .machine import Machine
from .plain import clean
from .record import RecordError, number_in, read_record, unseal
from .systemd import SystemdError
from .target import target_of

INTERRUPTED = "interrupted by a power cut or reboot; the committed generation booted"
_SILENT = "has no executor and no outcome; the watchdog, or the next apply, brings it to its end"
_RUNNING = ("active", "activating", "reloading", "deactivating")


def lease(machine: Machine) -> Optional[Dict[str, Any]]:
    """Return `model.observed.Lease`, None when nobody has one."""
    try:
        body = read_record(machine, places.LEASE)
    except FileNotFoundError:
        return None
    told = {"doing": clean(_key(body, "doing", str), 600)} if "doing" in body else {}
    return {
        "epoch": int(_key(body, "epoch", int)),
        "owner": clean(_key(body, "owner", str)),
        "txid": clean(_key(body, "txid", str)),
        "boot_id": clean(_key(body, "boot_id", str)),
        "step": clean(_key(body, "step", str)),
        "since": number_in(body, "since"),
        "renewed": number_in(body, "renewed"),
        "ttl_s": number_in(body, "ttl_s"),
        **told,
    }


def who_acts(machine: Machine) -> Optional[str]:
    """Say who has the host, for how long and what they do, None when nobody says so."""
    try:
        held = lease(machine)
    except (OSError, RecordError):
        return None
    if held is None:
        return None
    doing = held.get("doing") or f"transaction {held['txid']}, step {held['step']}"
    return f"{held['owner']} has the host for {max(0.0, machine.boottime() - held['since']):.0f} s: {doing}"


def is_deed(machine: Machine) -> bool:
    """Say whether who has the host does a single deed, as the watchdog does, and no transaction."""
    try:
        held = lease(machine)
    except (OSError, RecordError):
        return False
    return held is not None and "doing" in held


def unreadable(reason: str, host: str, epoch: int) -> "tuple[str, str, str, str]":
    """Say REC7150: a claim is there and cannot be read, so it counts as held; what to type takes it away."""
    fix = f"recon lock force-release {host} --epoch {epoch} --reason TEXT"
    return "REC7150", "whether somebody has the host cannot be told", reason, fix


def hold(machine: Machine) -> Optional[Dict[str, Any]]:
    """Return `model.observed.Hold`, None when there is none or it has ended.

    People may write the file by hand, so it needs no sum. `until` is theirs too: the host's wall clock tells.
    """
    try:
        data = machine.read(places.HOLD)
    except FileNotFoundError:
        return None
    try:
        document = json.loads(data.decode("utf-8"))
        if not isinstance(document, dict):
            raise RecordError("it is no object")
        body = unseal(data) if "sha256" in document else document
        until = None if body.get("until") is None else number_in(body, "until")
        held = {
            "owner": clean(_key(body, "owner", str)),
            "reason": clean(_key(body, "reason", str)),
            "since": number_in(body, "since"),
            "until": until,
        }
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{places.HOLD} is there and not understood: {error}") from error
    return None if until is not None and until <= machine.wall() else held


def _key(body: Dict[str, Any], key: str, kind: Any) -> Any:
    if not isinstance(body.get(key), kind) or isinstance(body[key], bool):
        raise RecordError(f"it has no proper {key}")
    return body[key]


def executor(machine: Machine, unit_active: Optional[str], leased: fact.Fact) -> Dict[str, Any]:
    """Return `model.observed.Executor`.

    Args:
        machine: where transactions are recorded.
        unit_active: the state of the executor's unit, None when systemd could not be asked.
        leased: the lease as observed: the second-best sign of a running executor.
    """
    active = unit_active in _RUNNING if unit_active is not None else leased.get("value", "unknown") is not None
    try:
        return _executor(machine, unit_active, leased, active=active)
    except PermissionError as error:  # transactions are root's alone, and others may look too
        return {"active": active, "txid": None, "last": fact.unknown(fact.why(error)), "target": None}


def _executor(machine: Machine, unit_active: Optional[str], leased: fact.Fact, *, active: bool) -> Dict[str, Any]:
    claimed = leased.get("value")
    newest, last = transactions.newest(machine)
    txid = claimed["txid"] if active and claimed else newest
    if active and unit_active is not None:
        # A lease may still be that of an executor that died; the unit itself says which transaction it is for.
        with contextlib.suppress(OSError, SystemdError):
            txid = running_txid(machine) or txid
    if newest and not active and "unknown" in last and _is_interrupted(machine, newest):
        booted = is_of_an_earlier_boot(machine, f"{places.transaction(newest)}/journal.jsonl")
        what = f"was {INTERRUPTED}; the next apply tidies up: {_plan(machine, newest)}" if booted else _SILENT
        last = fact.unknown(f"transaction {newest} {what}")
    target = _target(machine, txid) if active and txid else None
    return {"active": active, "txid": clean(txid) if txid else None, "last": last, "target": target}


def _target(machine: Machine, txid: str) -> Optional[str]:
    """Return what the transaction that runs makes of the host, None when its order cannot be read."""
    try:
        return target_of(transactions.read_book(machine, txid, "intent.json"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_interrupted(machine: Machine, txid: str) -> bool:
    """Say whether a transaction began, has no outcome, and left nothing on trial: nobody goes on with it."""
    directory = places.transaction(txid)
    began, ended = (machine.stat(f"{directory}/{name}") is not None for name in ("journal.jsonl", "outcome.json"))
    return began and not ended and machine.stat(places.TRIAL) is None


def _plan(machine: Machine, txid: str) -> str:
    try:
        host = transactions.read_book(machine, txid, "intent.json")["host"]
    except (OSError, RecordError, KeyError):
        return "recon plan"
    return f"recon plan --host {clean(host, 200)}"


def is_enrolled(machine: Machine) -> bool:
    """Say whether a complete agent is installed."""
    try:
        installed = machine.listdir(places.AGENTS)
    except FileNotFoundError:
        return False
    return any(mark.is_complete(machine, name) for name in installed)

"""The two verbs with which a controller changes a host: hand over an intent, and follow what becomes of it.

The transition itself runs in a unit of its own, owned by PID 1: a closed lid or a dropped connection does not end it.
PID 1 also refuses a second unit of that name: one transaction per host, without a lock of ours that could go stale.

Orders that come at the same time take turns before that, so that whoever loses the race does nothing but wait for the
first to be launched, and is told of it by looks at files. That is a courtesy: a turn that takes long is not waited for.

Must not: do a step of a transition.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Optional

from . import claims, history, install, lease, passes, places, transactions, versions
from .executor_unit import DESCRIPTION, TXID, has_process, is_active, running_txid, stuck
from .journal import read_events
from .machine import BusyError, Machine
from .outcome import read_outcome
from .plain import clean
from .record import RecordError, canonical, make_way, read_record, write_record
from .target import target_of
from .wire import RequestError

PYTHON = "/usr/bin/python3"
LAUNCH_TIMEOUT_S = 30.0
_MAX_WAIT_S = 5.0
_POLL_S = 0.05
_GATHER_S = 0.4
_LEAVE_S = 2.0
_RECHECK_S = 0.5
_TURN_POLL_S = 0.02
_PATIENCE_S = 0.5
_TURN_S = 10.0


def apply(machine: Machine, args: Dict[str, Any], ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Install the agent, write the intent, start the executor; one that runs already for this transaction is joined.

    Who comes second is told who was first, and whether that transaction does what was wanted anyway (`joins`).
    """
    intent = args.get("intent")
    if not isinstance(intent, dict) or intent.get("protocol") != 1:
        raise RequestError("REC5016", "the agent does not know this request", "apply without intent", "update recon")
    txid = checked(intent.get("txid"))
    if _is_repeated(machine, txid, intent):
        return {"launched": True, "txid": txid}
    machine.mkdir(places.RUN)
    began = machine.monotonic()
    with contextlib.ExitStack() as turn:
        while not has_process(machine):
            try:
                turn.enter_context(machine.lock(places.LAUNCH_LOCK))
                break
            except BusyError:
                waited_s = machine.monotonic() - began
            first = _launching(machine, intent) if waited_s >= _PATIENCE_S else None
            if first is not None:
                return {"launched": False, "lease": first}
            if waited_s >= _TURN_S:
                break
            machine.sleep(_TURN_POLL_S)
        return _launch(machine, txid, args, ctx)


def _launch(machine: Machine, txid: str, args: Dict[str, Any], ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Launch an order unless an executor runs."""
    intent = args["intent"]
    if is_active(machine):
        return _second(machine, intent)
    unreadable = _unreadable(machine, intent)
    if unreadable is not None:
        return unreadable
    with contextlib.suppress(OSError):  # for those who wait
        note = {"owner": str(intent.get("owner")), "txid": txid, "since": machine.boottime(), "target": _target(intent)}
        write_record(machine, places.LAUNCHING, note)
    place = _installed(machine, ctx)
    install.make_current(machine, place)
    versions.remember(machine)
    began = machine.stat(places.transaction(txid)) is not None
    machine.mkdir(places.transaction(txid), 0o700)
    make_way(machine, places.transaction(txid) + "/intent.json")
    write_record(machine, places.transaction(txid) + "/intent.json", intent, 0o600)
    passes.remember(machine, txid, args.get("tokens"))
    done = machine.run(launch_argv(place, txid), LAUNCH_TIMEOUT_S)
    if done.rc == 0:
        return {"launched": True, "txid": txid}
    if _is_repeated(machine, txid, intent) or (running_txid(machine) == txid and is_active(machine)):
        # The same order was handed over twice at once, for an answer was lost; whoever was faster has started it.
        return {"launched": True, "txid": txid}
    if not began and machine.stat(places.transaction(txid) + "/journal.jsonl") is None:
        # This transaction never was. What an executor of it that died has left stays: it tells how to go back.
        machine.remove_tree(places.transaction(txid))
    if is_active(machine):
        return _second(machine, intent)  # somebody did not wait for our turn, and was faster than we are
    left = stuck(machine)
    if left:
        # systemd keeps a unit loaded while anything is in its control group, and a name only once.
        fix = "reboot the host: it boots what is committed; then apply again"
        raise RequestError("REC7231", "something that an executor left is stuck in the kernel", ", ".join(left), fix)
    text = clean(done.err) or f"exit status {done.rc}"
    raise RequestError("REC7117", "the host would not start the executor", text, "systemctl status recon-executor")


def launch_argv(place: str, txid: str) -> List[str]:
    """Return the words that start the executor.

    Never with a pipe to this connection: its death would end the transition. ExecStopPost runs however the executor
    ended; with an outcome written it does nothing, without one it brings the host to an end state. It never begins.
    There are two of them: who comes to bring a host to an end may be killed as well. `systemctl kill` kills what runs
    in the unit and what comes right after it, all of ExecStopPost with it; then Restart= starts it again, and whoever
    finds a journal goes on from there. It is for signals alone: a stop is one, and an end with a status is its end.
    KillMode: what a dead executor left running (a pull, a hook) is killed at once, or its successor would wait for it.

    TimeoutStopSec is one figure for each phase of a stop by itself (systemd.service(5)): until SIGTERM has ended the
    executor, until SIGKILL has ended what it left, and for ExecStopPost. In the first two it must be short: a process
    stuck in the kernel is deaf to both, and systemd goes on without it only then. ExecStopPost must never be cut, so
    the successor asks for more time as soon as it finds work to do (`notify`), for which it needs NotifyAccess.
    """
    program = [PYTHON, "-I", "-S", place, "execute", txid]
    after = [*program[:-2], "recover", txid]
    return [
        "systemd-run",
        f"--unit={places.EXECUTOR}",
        "--collect",
        "--no-block",
        "--no-ask-password",
        "--service-type=exec",
        f"--description={DESCRIPTION}{txid}",
        "--property=StandardOutput=journal",
        "--property=StandardError=journal",
        "--property=TimeoutStopSec=30s",
        "--property=NotifyAccess=exec",
        "--property=KillMode=mixed",
        "--property=Restart=on-abnormal",
        "--property=ExecStopPost=-" + " ".join(after),
        "--property=ExecStopPost=" + " ".join(after),
        *program,
    ]


def follow(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Return what happened since an event, waiting a little for news so that asking again is cheap.

    News is gathered for a moment: steps come in bursts, and every request is an interpreter that competes with them.
    An outcome is told when the executor has left as well, unless that takes long: the next plan of whoever is told
    would say that a transition runs. `active` is said of this transaction: another one's executor brings no news of it.
    """
    txid = checked(args["txid"])
    after = int(args.get("after_seq", 0))
    began = machine.monotonic()
    ends = began + min(_MAX_WAIT_S, max(0.0, float(args.get("wait_s", 0))))
    path = places.transaction(txid) + "/journal.jsonl"
    rechecked = False
    told: Optional[float] = None
    while True:
        # In this order: an executor that ends between two looks has written its outcome before it went.
        active = is_active(machine) and running_txid(machine) in (None, txid)
        outcome = read_outcome(machine, txid) or _outcome_told(machine, txid)
        try:
            events = read_events(machine, path, after)
        except OSError:
            # The end is told all the same when somebody has put something else in the place of the journal.
            events = []
        reply = {"events": events, "outcome": outcome, "active": active}
        now = machine.monotonic()
        if outcome is not None:
            told = now if told is None else told
            if not active or now >= told + min(_LEAVE_S, ends - began):
                return reply
            machine.sleep(_POLL_S)
            continue
        if events and (now >= began + _GATHER_S or now >= ends):
            return reply
        if not active:
            if events:
                return reply
            if rechecked:
                return reply
            rechecked = True
            machine.sleep(_RECHECK_S)
            continue
        if now >= ends:
            return reply
        machine.sleep(_POLL_S)


def _outcome_told(machine: Machine, txid: str) -> Optional[Dict[str, Any]]:
    """Return the outcome of a transaction that is long over, from the history: of its books nothing is left."""
    if machine.stat(places.transaction(txid)) is not None:
        return None
    line = history.end_of(machine, txid)
    return None if line is None else {key: value for key, value in line.items() if key != "from_generation"}


def checked(txid: Any) -> str:
    """Return a transaction id that is safe in a path and on a command line."""
    if not isinstance(txid, str) or not TXID.match(txid):
        raise RequestError("REC5016", "the agent does not know this request", "not a transaction id", "update recon")
    return txid


def _installed(machine: Machine, ctx: Dict[str, Any]) -> str:
    if ctx["mode"] == "simulated" and ctx.get("bundle") is None:
        return install.install(machine, ctx["digest"], {})
    return install.install(machine, ctx["digest"], ctx.get("bundle"))


def _is_repeated(machine: Machine, txid: str, intent: Dict[str, Any]) -> bool:
    """Say whether this very order came before, and has ended; another order under the same name is refused."""
    try:
        earlier = read_record(machine, places.transaction(txid) + "/intent.json")
    except (OSError, RecordError):
        return False
    if canonical(earlier) != canonical(intent):
        raise RequestError("REC7118", "another order has this transaction id", txid, "recon apply")
    return read_outcome(machine, txid) is not None


def _launching(machine: Machine, intent: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Tell whose turn it is, None when it is worth waiting for its end.

    Who wants the very same waits, for the other one can be followed only when it runs. Nobody believes a turn that
    takes too long.
    """
    try:
        note = read_record(machine, places.LAUNCHING)
        age_s = round(machine.boottime() - float(note["since"]), 1)
        told = {"owner": clean(str(note["owner"])), "txid": checked(note["txid"]), "step": "launch", "age_s": age_s}
    except (OSError, KeyError, TypeError, ValueError, RequestError):
        return None
    if machine.stat(places.transaction(note["txid"]) + "/journal.jsonl") is not None:
        return None  # it began long since: the next one has its turn, and did not come to say so yet
    is_same = note.get("target") is not None and note["target"] == _target(intent)
    return told if age_s < _TURN_S and (not is_same or intent.get("asked")) else None


def _second(machine: Machine, intent: Dict[str, Any]) -> Dict[str, Any]:
    """Answer an order when an executor runs: its own is joined, of another it is told."""
    txid = running_txid(machine)
    return {"launched": True, "txid": txid} if txid == intent["txid"] else _busy(machine, intent, txid)


def _busy(machine: Machine, intent: Dict[str, Any], txid: Optional[str]) -> Dict[str, Any]:
    """Tell who has the host, since when and what they do; the executor may not have written a word yet."""
    held = _lease(machine)
    running = _order(machine, txid) if txid else None
    if held is not None and txid in (None, held["txid"]):
        told = {**held, "age_s": round(machine.boottime() - held["since"], 1)}
    elif running is not None:
        told = {"owner": clean(str(running["owner"])), "txid": txid, "step": "launch", "age_s": 0.0}
    else:
        return {"launched": False, "lease": None}
    answer: Dict[str, Any] = {"launched": False, "lease": told}
    wanted = _target(intent)
    # Who wants something done beside what is declared is not served by one who only wants the latter.
    if running is not None and wanted is not None and _target(running) == wanted and not intent.get("asked"):
        answer["joins"] = txid
    return answer


def _unreadable(machine: Machine, intent: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Refuse while there is a lease nobody can read: it may be somebody's, so it is held until a person says not."""
    try:
        claims.lease(machine)
    except (OSError, ValueError) as error:
        texts = claims.unreadable(str(error), clean(str(intent.get("host", "HOST")), 200), lease.current(machine))
        return {"launched": False, "lease": None, "problem": dict(zip(("code", "summary", "detail", "fix"), texts))}
    return None


def _order(machine: Machine, txid: str) -> Optional[Dict[str, Any]]:
    try:
        return transactions.read_book(machine, txid, "intent.json")
    except (OSError, RecordError):
        return None


def _target(intent: Dict[str, Any]) -> Optional[str]:
    try:
        return target_of(intent)
    except (KeyError, TypeError):
        return None


def _lease(machine: Machine) -> Optional[Dict[str, Any]]:
    try:
        return claims.lease(machine)
    except (OSError, ValueError):
        return None

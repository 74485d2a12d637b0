"""Sends what is in the outbox: each webhook its own events, in order, at least once.

    record says where ─▶ next wanted event ─▶ POST, signed ─▶ 2xx: record, next one
                                                       └─▶ else: record when to try again, and end

A cut between the answer and the record sends an event twice, with the same id. An event that is refused keeps those
after it waiting: a receiver that is told of an end was told of its beginning. `410 Gone` turns a webhook off until its
declaration changes, as the standard asks for.

Must not: take the host's lock, or let an answer reach anything but the webhook's own record.
"""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Tuple

from . import event, outbox, places, webhook
from .event import Event
from .journal import boot_id
from .machine import BusyError, Machine
from .outbox import Outbox, Webhook
from .plain import clean
from .wire import RequestError

FIRST_S = 5.0
LONGEST_S = 600.0
_RUN_S = 240.0
_KEYS_LIMIT = 1 << 14
_GONE = 410


class KeysError(Exception):
    """The keys of a webhook cannot be used, and why; nothing of them is in the text."""


def deliver(machine: Machine) -> Dict[str, Any]:
    """Send what is due for every webhook, and return what it came to."""
    try:
        box = outbox.declared(machine)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"said": f"what is committed cannot be told: {clean(str(error))}"}
    if box is None:
        outbox.forget_undeclared(machine)
        return {"said": "no webhooks are declared"}
    machine.mkdir(places.RUN)
    try:
        with machine.lock(places.OUTBOX_LOCK):
            outbox.forget_others(machine, list(box.specs))
            ends = machine.monotonic() + _RUN_S
            said = "; ".join(f"{name}: {_one(machine, box, name, ends)}" for name in sorted(box.specs))
    except BusyError:
        return {"said": "another delivery runs"}
    # They may have gone while it ran, and whoever took them away did not wait for it.
    outbox.forget_undeclared(machine)
    return {"said": said}


def try_out(machine: Machine, owner: str) -> Dict[str, Any]:
    """Send every webhook one event of the type `test`, whatever it asks for, and say what each answered."""
    try:
        box = outbox.declared(machine)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError("REC7325", "the webhooks of the host cannot be told", clean(str(error)), "") from error
    if box is None:
        detail = "the committed generation has none"
        raise RequestError("REC7326", "no webhooks are declared", detail, "add events: to fleet.yaml, then recon apply")
    line = {"kind": event.TEST, "owner": clean(owner, 200), "at": machine.wall()}
    made = event.of(line)._replace(type=event.TEST)

    def ask(spec: Dict[str, Any]) -> Dict[str, Any]:
        began = machine.monotonic()
        status, error = _post(machine, spec, made, box.about)
        return {"status": status, "error": error, "took_s": round(machine.monotonic() - began, 3)}

    names = sorted(box.specs)
    answers = machine.parallel([lambda spec=box.specs[name]: ask(spec) for name in names])
    return {"id": made.id, "webhooks": dict(zip(names, answers))}


def _one(machine: Machine, box: Outbox, name: str, ends: float) -> str:
    try:
        return _send_all(machine, box, outbox.open_webhook(machine, name, box), ends)
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Of this webhook alone; another one's record may be fine.
        return f"left for the next run: {clean(str(error))}"


def _send_all(machine: Machine, box: Outbox, hook: Webhook, ends: float) -> str:
    this_boot = boot_id(machine)
    if hook.is_off:
        return "off: it said that it is gone"
    if hook.is_waiting(this_boot, machine.boottime()):
        return f"waits, after {hook.failures} tries"
    sent, passed = 0, False
    # Once more when it came to the end: what was written meanwhile had its call for a delivery while this one ran.
    while machine.monotonic() < ends:
        found = list(outbox.to_come(machine, hook))
        if not found:
            break
        for each in found:
            if machine.monotonic() >= ends:
                break
            if hook.wants(each):
                status, error = _post(machine, hook.spec, each.event, box.about)
                if error:
                    _failed(machine, hook, each.event, status, error, this_boot)
                    return f"{sent} sent, then: {error}"
                sent += 1
            hook.pass_by(each)
            passed = not hook.wants(each)
            if not passed:
                hook.failures, hook.error, hook.next_at, hook.note = 0, "", 0.0, ""
                hook.save(machine)
    if passed:
        hook.save(machine)
    return f"{sent} sent"


def _failed(machine: Machine, hook: Webhook, made: Event, status: int, error: str, this_boot: str) -> None:
    hook.failures += 1
    is_new = error != hook.error
    hook.error = error
    hook.is_off = status == _GONE
    hook.boot_id = this_boot
    hook.next_at = machine.boottime() + pause_s(hook.failures, f"{hook.name} {made.id}")
    hook.save(machine)
    if is_new:
        machine.log_error(f"recon events: webhook {hook.name}: {error}")


def pause_s(failures: int, salt: str) -> float:
    """Return how long to wait after so many failures in a row: twice as long each time, and less by up to half.

    By how much less is made of the salt, so that hosts do not all come back at once, and every look says the same.
    """
    longest = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 20))
    share = int(hashlib.sha256(f"{failures} {salt}".encode()).hexdigest()[:8], 16) / float(0xFFFFFFFF)
    return longest * (1.0 - share / 2.0)


def _post(machine: Machine, spec: Dict[str, Any], made: Event, about: Dict[str, str]) -> Tuple[int, str]:
    """Send one event; return the status and what is wrong with it, nothing when it was taken."""
    try:
        keys = _keys(machine, str(spec["secret_file"]))
    except KeysError as error:
        return 0, str(error)
    body = event.payload(made, about)
    headers = webhook.sign(keys, made.id, int(machine.wall()), body)
    answer = machine.post(spec["url"], float(spec["timeout_s"]), body, headers)
    if answer.status == 0:
        return 0, f"no answer: {clean(answer.body, 200)}"
    if 200 <= answer.status < 300:
        return answer.status, ""
    if answer.status == _GONE:
        return answer.status, "it answered 410, gone: nothing more is sent until its declaration changes"
    word = ", and nobody is sent on to another address" if 300 <= answer.status < 400 else ""
    return answer.status, f"it answered {answer.status}{word}"


def _keys(machine: Machine, path: str) -> List[bytes]:
    """Return the keys in a file that is root's alone; KeysError says why it is not used."""
    folder, found = machine.stat(path.rpartition("/")[0]), machine.stat(path)
    if found is None:
        raise KeysError(f"{path} is not there: it holds the keys of the webhook")
    if found.kind != "file" or folder is None or folder.kind != "dir":
        raise KeysError(f"{path} is no file in a directory of its own")
    if found.uid != machine.own_uid or found.mode & 0o077:
        who, mode = machine.own_login, f"uid {found.uid}, mode {found.mode:04o}"
        raise KeysError(f"{path} is not {who}'s alone ({mode}): chmod 600, chown {who}")
    if folder.uid not in (0, machine.own_uid) or folder.mode & 0o022:
        raise KeysError(f"the directory of {path} can be written to by others than {machine.own_login}")
    try:
        return webhook.read_keys(machine.read(path, _KEYS_LIMIT))
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror or error}") from error
    except webhook.SecretError as error:
        raise KeysError(f"{path}: {error}") from error

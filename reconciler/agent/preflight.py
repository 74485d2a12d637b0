"""What can be checked before anything is written: what would start must be able to start.

Only what this transaction starts is checked: a coven that the host may run some day may still lack its weights.
Pulling a missing image is the one thing done here; it changes nothing that runs.

Must not: write outside the image store.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Callable, Dict, List, Optional, Set

from . import (
    admission,
    bounded,
    container_names,
    hooks,
    images,
    model_files,
    model_user,
    share_deeds,
    step_memory,
)
from .fact import why
from .model_places import Fault
from .plain import clean, clean_lines
from .txn import HaltError, Run, known, starting, stopping

_PULL_TIMEOUT_S = 3600.0
_FILES_S = 60.0
_ROOM = 64 << 20
_RUN_TIER = (5, 3)


def check_before(run: Run) -> None:
    """Check room, hooks, podman, images, paths and memory figures; HaltError names the first kind of fault."""
    _check_room(run)
    hooks.check(run)
    share_deeds.refuse_foreign(run)
    admission.check(run, [member for move in run.intent["moves"] for member in stopping(move)])
    members = to_start(run)
    if members:
        _check_podman(run)
        _check_models(members, run)
        _check_mounts(members, run)
        container_names.check(run, members)
        _check_memory(run)
        _check_images(members, run)
        _check_readers(members, run)


def to_start(run: Run) -> List[Dict[str, Any]]:
    """Return every member that this transaction starts."""
    members = [member for move in run.intent["moves"] for member in starting(move)]
    return members + _residents_to_start(run)


def _residents_to_start(run: Run) -> List[Dict[str, Any]]:
    return [member for member in run.intent["residents"] if member["unit"] in run.intent["restart_residents"]]


def _check_room(run: Run) -> None:
    for path in ("/etc", "/var/lib", "/run"):
        free = run.machine.free_bytes(path)
        if free < _ROOM:
            raise HaltError("REC7123", f"{path} has {free} bytes left, {_ROOM} are needed", fix=f"make room on {path}")


def _check_podman(run: Run) -> None:
    text = str(known(run.state["identity"]["podman"]) or "")
    found = re.match(r"(\d+)\.(\d+)", text)
    if not found or (int(found[1]), int(found[2])) < _RUN_TIER:
        version = clean(text) or "unknown"
        raise HaltError(
            "REC7120",
            f"podman is {version}; a trial in /run needs 5.3 or later, and without it a power cut could not be undone",
            fix="install podman 5.3 or later on the host",
        )


def _check_mounts(members: List[Dict[str, Any]], run: Run) -> None:
    missing = []
    for member in members:
        for path in member["mounts"]:
            # The root of a share may lie under it, and whoever asks for that waits as long as its hub is away.
            try:
                found = bounded.within(functools.partial(run.machine.stat, path), _FILES_S)
            except TimeoutError:
                missing.append(f"{clean(path)} ({member['service']}), which does not answer")
                break
            if found is None:
                missing.append(f"{clean(path)} ({member['service']})")
    if missing:
        raise HaltError(
            "REC7122", "not on the host: " + ", ".join(missing), fix="put the files there, or change desired/"
        )


def _check_models(members: List[Dict[str, Any]], run: Run) -> None:
    """Refuse what has no model to load: nothing is downloaded once somebody waits."""
    for member in _with_models(members):
        _refuse(member, functools.partial(model_files.fault_of, run.machine, member["model"]))


def _check_readers(members: List[Dict[str, Any]], run: Run) -> None:
    """Refuse a model that the container's user cannot read; its image is on the host by now."""
    for member in _with_models(members):
        look = functools.partial(model_user.unreadable, run.machine, member["model"], member["image"])
        _refuse(member, look)


def _with_models(members: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    # What a host has on record from before models were looked at does not have it.
    return [member for member in members if member.get("model")]


def _refuse(member: Dict[str, Any], look: Callable[[], Optional[Fault]]) -> None:
    """Refuse what a look at files finds wrong; a server that does not answer is waited for no longer than a while."""
    try:
        fault = bounded.within(look, _FILES_S)
    except OSError as error:
        path = clean(member["model"]["path"])
        fault = Fault("REC7411", f"{path} cannot be looked at: {why(error)}", f"ls -l {path}")
    if fault is not None:
        raise HaltError(fault.code, f"{fault.reason} ({member['service']})", fix=fault.fix)


def _check_images(members: List[Dict[str, Any]], run: Run) -> None:
    wanted = {member["image"] for member in members}
    for image in sorted(wanted - _stored(run, wanted)):
        # What the store's own files do not show, podman may still know; only then is a pull worth its time.
        if run.machine.run(["podman", "image", "exists", image], 60.0).rc == 0:
            continue
        run.note(f"pulling {image}")
        done = run.machine.run(["podman", "pull", "--quiet", image], _PULL_TIMEOUT_S)
        if done.rc != 0:
            why = "; ".join(clean_lines(done.err, 3)) or f"exit status {done.rc}"
            raise HaltError(
                "REC7121", f"the image {clean(image)} is not on the host: {why}", fix=f"podman pull {image}"
            )


def _stored(run: Run, wanted: Set[str]) -> Set[str]:
    try:
        return set(images.present(run.machine, sorted(wanted)))
    except (OSError, ValueError):
        return set()


def _check_memory(run: Run) -> None:
    """Refuse what can never fit, and what could not be measured later: both would end with nothing running."""
    residents = step_memory.need_of_residents(run, _residents_to_start(run))
    needs = []
    for move in run.intent["moves"]:
        if starting(move) and move["need_bytes"]:
            need = step_memory.need_of(move)
            total, per_gpu = need.total + residents.total, need.per_gpu + residents.per_gpu
            needs.append((f"slot {move['slot']}", need._replace(total=total, per_gpu=per_gpu)))
    if residents.total:
        needs.append(("residents", residents))
    for who, need in needs:
        problem = _unified(need, run) if need.memory_class == "unified" else _per_gpu(need, run)
        if problem:
            raise HaltError("REC7124", f"{who}: {problem}", fix=f"recon plan --host {run.intent['host']}")


def _unified(need: step_memory.Need, run: Run) -> str:
    meminfo = known(run.state["meminfo"])
    if meminfo is None:
        return "how much memory the host has is not known"
    wanted = need.total + need.reserve
    return f"{wanted} bytes are needed, the host has {meminfo['total']}" if meminfo["total"] < wanted else ""


def _per_gpu(need: step_memory.Need, run: Run) -> str:
    gpus = known(run.state["gpus"])
    if gpus is None:
        return "what its GPUs hold is not known"
    by_uuid = {gpu["uuid"]: gpu for gpu in gpus}
    for uuid in need.gpus or ():
        memory = known(by_uuid[uuid]["memory"]) if uuid in by_uuid else None
        if memory is None:
            return f"the memory of {clean(uuid)} is not known"
        if memory["total"] < need.per_gpu:
            return f"{need.per_gpu} bytes are needed on {clean(uuid)}, it has {memory['total']}"
    return "" if need.gpus else "it has no GPU"

"""The order of a switch as the host makes it by itself: what is committed, with other covens live.

Files, groups and settings are those of the committed generation, which were reviewed; what a move says of memory, GPUs
and deadlines is worked out as the planner does it (`planner.transitions`), and a test holds both together. The executor
that carries it out is the ordinary one: claim, stage, drain, memory, health, rollback.

Must not: change a file or a setting, or decide what should be live.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from . import adoptee, files, fingerprint, generations
from .covens import UP
from .machine import Machine
from .txn import known, starting

OWNER = "schedule"
_OWN = ("generation", "previous", "txid", "owner", "epoch", "machine_id", "live", "files")
"""What a manifest says of itself; everything else in it stands in the order under the same name."""
_TIMEOUT_S = {"discrete": 60.0, "unified": 240.0, "gh200": 60.0}
_GIB = 1 << 30
_UNIFIED_RESERVE = 12 * _GIB
_DISCRETE_RESERVE = _GIB // 2
_GRAPHICS_ONLY = "G"


class NoOrderError(Exception):
    """The host is not as it must be for a switch, and why; nothing was touched."""


def question(spec: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the host asks itself: the same as the executor will when it has its claim."""
    shared = [{"unit": unit, "health": None} for unit in spec["shared"]]
    return {"shared": shared, "memory": spec["memory"], "images": [], "deadline_s": 20.0}


def order(
    machine: Machine, body: Dict[str, Any], number: int, state: Dict[str, Any], wanted: Dict[str, Optional[str]]
) -> Dict[str, Any]:
    """Return the intent that brings other covens up, without its transaction's name.

    Args:
        machine: the host.
        body: the manifest of the committed generation.
        number: of that generation.
        state: the host as it was just observed.
        wanted: by slot, the coven that should be live; a slot that is not in it is left as it is.

    Raises:
        NoOrderError: the host is in no state to be switched.
    """
    spec = body["schedule"]
    lies = generations.describe(machine, number, str(body["host"]))["files"]
    written = [_file(name, text) for name, text in sorted(lies.items())]
    groups = {group["coven"]: group for group in body["groups"]}
    targets = {group["target"] for group in body["groups"]}
    live = {**body["live"], **wanted}
    boot = [groups[coven]["target"] for coven in live.values() if coven is not None]
    moves = _moves(spec, groups, state, wanted)
    _refuse_beside(machine, spec, moves)
    return {
        **{key: value for key, value in body.items() if key not in _OWN},
        "protocol": 1,
        "owner": OWNER,
        "fingerprint": fingerprint.fingerprint(state),
        "fingerprint_parts": fingerprint.parts(state),
        "from_generation": number,
        "quadlets": [file for file in written if file["name"].endswith(".container")],
        "natives": [file for file in written if not file["name"].endswith(".container")],
        "remove_natives": [],
        "memory": spec["memory"],
        "boot": [*boot, *(name for name in body["boot"] if name not in targets)],
        "manifest_live": live,
        "moves": moves,
        "restart_residents": [],
        "shared": sorted(spec["shared"]),
        "stop_units": [],
    }


def running(state: Dict[str, Any], slot: str) -> List[str]:
    """Return the covens whose gate is up on a slot."""
    units = known(state["units"])
    if units is None:
        raise NoOrderError(f"the units cannot be told: {state['units'].get('unknown')}")
    prefix, suffix = f"recon-gate-{slot}-", ".service"
    up = [unit["name"] for unit in units if unit["active"] in UP]
    return sorted(name[len(prefix) : -len(suffix)] for name in up if name.startswith(prefix) and name.endswith(suffix))


def _file(name: str, text: str) -> Dict[str, Any]:
    header = files.read_header(text.encode("utf-8"))
    return {
        "name": name,
        "content": text,
        "body_sha256": header.body_sha256,
        "config_hash": header.config_hash or "",
    }


def _moves(
    spec: Dict[str, Any], groups: Dict[str, Any], state: Dict[str, Any], wanted: Dict[str, Optional[str]]
) -> List[Dict[str, Any]]:
    moves = [move for slot, coven in wanted.items() for move in [_move(spec, groups, state, slot, coven)] if move]
    return sorted(moves, key=lambda move: (move["new"] is not None, move["old"] is None, move["slot"]))


def _move(
    spec: Dict[str, Any], groups: Dict[str, Any], state: Dict[str, Any], slot: str, coven: Optional[str]
) -> Optional[Dict[str, Any]]:
    found = running(state, slot)
    if found == ([] if coven is None else [coven]):
        return None
    if len(found) > 1:
        raise NoOrderError(f"slot {slot} has more than one coven up: {', '.join(found)}")
    unknown = [name for name in (*found, coven) if name is not None and name not in groups]
    if unknown:
        raise NoOrderError(f"the committed generation does not describe {unknown[0]}")
    gpus = _gpus(spec, state, slot)
    new = groups[coven] if coven is not None else None
    if new is not None:
        _refuse_strangers(spec, gpus, slot)
    need = sum(member["memory"] for member in new["members"]) if new is not None else 0
    kind = known(state["memory_class"]) or "discrete"
    move: Dict[str, Any] = {
        "slot": slot,
        "gpus": [gpu["uuid"] for gpu in gpus],
        "kind": "switch",
        "old": groups[found[0]] if found else None,
        "new": new,
        "restart": [],
        "need_bytes": need,
        "need_bytes_per_gpu": -(-need // max(1, len(gpus))),
        "reserve_bytes": _reserve(spec, kind),
        "memory_class": kind,
        "memory_timeout_s": spec["release_s"] or _TIMEOUT_S[kind],
    }
    if spec["drop_caches"] and kind != "discrete":
        move["drop_caches"] = True
    return move


def _refuse_beside(machine: Machine, spec: Dict[str, Any], moves: List[Dict[str, Any]]) -> None:
    """Start nothing beside what it takes the place of: only what a reviewed plan names is taken over."""
    adopts = {name for move in moves for member in starting(move) for name in member.get("adopts", ())}
    names = sorted(adopts.difference(spec["shared"]))
    for now in adoptee.look(machine, names) if names else ():
        if now.is_up or now.boots:
            how = "runs" if now.is_up else "starts with the host"
            raise NoOrderError(f"{now.name} {how}, and a schedule takes nothing over; recon apply does")


def _reserve(spec: Dict[str, Any], kind: str) -> int:
    if spec["reserve"] is not None:
        return int(spec["reserve"])
    return _UNIFIED_RESERVE if kind == "unified" else _DISCRETE_RESERVE


def _gpus(spec: Dict[str, Any], state: Dict[str, Any], slot: str) -> List[Dict[str, Any]]:
    there = known(state["gpus"])
    if there is None:
        raise NoOrderError(f"who uses the GPUs cannot be told: {state['gpus'].get('unknown', 'there is none')}")
    named = spec["gpus"].get(slot, ["all"])
    if list(named) == ["all"]:
        return list(there)
    by_name = {**{str(gpu["index"]): gpu for gpu in there}, **{gpu["uuid"]: gpu for gpu in there}}
    missing = [name for name in named if name not in by_name]
    if missing:
        raise NoOrderError(f"slot {slot} names GPUs that are not there: {', '.join(missing)}")
    return [by_name[name] for name in named]


def _refuse_strangers(spec: Dict[str, Any], gpus: List[Dict[str, Any]], slot: str) -> None:
    """Disturb nobody for a start that would find its memory taken: nobody but recon and shared units may be there."""
    for gpu in gpus:
        holders = known(gpu["processes"])
        if holders is None:
            raise NoOrderError(f"who uses GPU {gpu['index']} cannot be told: {gpu['processes'].get('unknown')}")
        for holder in holders:
            unit = holder["unit"] or ""
            ours = unit.startswith("recon-") or unit in spec["shared"]
            if not ours and holder["kind"] != _GRAPHICS_ONLY:
                raise NoOrderError(f"{unit or holder['comm']} (pid {holder['pid']}) is on the GPUs of slot {slot}")

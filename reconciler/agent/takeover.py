"""Take-over: a unit or container of somebody else makes room for a service that git says adopts it, and stays off.

What keeps a unit off is decided by the one symlink, as everything that boots is. A drop-in, written while nothing is
disturbed, lets the unit start unless a transition has it down just now (a mark in /run, gone after a reboot) or the
committed generation names it. So a power cut before the commit boots it as ever, and one after the commit does not,
with none of our code on the path. Only then, when the way is only forward, is it disabled or masked and the drop-in
taken away: what git says later does not bring it back.

    stage: drop-in ─▶ stop: mark in /run, stop ─▶ commit: the generation names it ─▶ finish: disable or mask, no drop-in

A container that podman runs by itself has no such condition. Its restart policy is kept until right before the commit.

Must not: act on anything that the order does not name, or take a unit over that could not be brought back.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Set

from . import adoptee, files, places, step_memory, step_stop, step_undo, systemd, transactions
from .adoptee import Adoptee, AdopteeError
from .machine import Machine
from .plain import clean
from .record import RecordError
from .systemd import SystemdError
from .txn import HaltError, Run, known, starting, units_of

DIRECTORY = "adopted"
"""Where a generation has an empty file for each unit that it keeps off."""
DROP_IN = "recon-adopted.conf"
_TEXT = """\
# Written by recon while {unit} is being taken over, and removed when that has ended.
[Unit]
ConditionPathExists=!%t/recon/adopting/{unit}
ConditionPathExists=!%E/containers/systemd/recon/adopted/{unit}
"""
_POLL_S = 0.5
_START_S = 900.0
_STARTS = 4
_STEADY_S = 3.0
_PODMAN_S = 60.0
_NONE = "no"
_SERVING = ("active", "reloading", "running")
"""What systemd and podman call what has not begun to stop."""


def entries(move: Dict[str, Any], kind: Optional[str] = None) -> List[Dict[str, Any]]:
    """Return what a move takes over, as planned; of one kind only where one is given."""
    return [each for each in move.get("takes_over", ()) if kind in (None, each["kind"])]


def ran(move: Dict[str, Any]) -> bool:
    """Say whether anything ran of what a move takes over: what only starts with the host does not come back now."""
    return any(each["is_up"] for each in entries(move))


def check(run: Run) -> None:
    """Look again at what is to be taken over; HaltError when it is not as planned, or cannot be brought back."""
    planned = [each for move in run.intent["moves"] for each in entries(move)]
    if not planned:
        return
    host = run.intent["host"]
    names = [each["name"] for each in planned]
    foreign = [name for name in names if name not in systemd.adopted_by(run.intent)]
    if foreign:
        text = f"{clean(', '.join(foreign), 300)}: it is shared, or recon's, so it is never taken over"
        raise HaltError("REC7490", text, fix=f"recon plan --host {host}", state="refused")
    try:
        found = adoptee.look(run.machine, names)
    except (AdopteeError, SystemdError) as error:
        text = f"whether {', '.join(names)} can be taken over cannot be told: {error}"
        raise HaltError("REC7490", text, fix=f"recon plan --host {host}", state="refused") from error
    for each, now in zip(planned, found):
        if now.problem:
            raise HaltError("REC7490", f"{now.name}: {now.problem}", fix=now.fix, state="refused")
        if (now.kind, now.is_up, now.boots) != (each["kind"], each["is_up"], each["boots"]):
            text = f"{now.name} is not as it was when the plan was made: it is {now.active or 'gone'} now"
            raise HaltError("REC7491", text, fix=f"recon plan --host {host}", state="stale")
        run.adoptees[now.name] = now


def recorded(run: Run) -> List[Dict[str, Any]]:
    """Return how everything is that will be taken over: what the way back needs to know, written before any deed."""
    return [
        {
            "name": now.name,
            "kind": now.kind,
            "is_up": now.is_up,
            "boots": now.boots,
            "restart": now.restart,
            "links": adoptee.links(run.machine, now.name) if now.kind == "unit" else {},
            "bytes": _held(run, now),
        }
        for now in run.adoptees.values()
    ]


def drop_ins(run: Run) -> List[str]:
    """Return the drop-ins that stage writes, by their names below the directory of native units."""
    return [f"{each['name']}.d/{DROP_IN}" for move in run.intent["moves"] for each in entries(move, "unit")]


def stage(run: Run) -> None:
    """Write the drop-ins; they hold nothing back yet. The record of what was there is durable by now."""
    for move in run.intent["moves"]:
        for each in entries(move, "unit"):
            run.machine.mkdir(f"{places.NATIVE}/{each['name']}.d")
            run.machine.write(_drop_in(each["name"]), _TEXT.format(unit=each["name"]).encode())


def tidy(run: Run) -> None:
    """Remove the directories that only held a drop-in, which is put back by now: one that stays does no harm."""
    for move in run.intent["moves"]:
        for each in entries(move, "unit"):
            remove_empty(run.machine, f"{places.NATIVE}/{each['name']}.d")


def name_in_generation(run: Run) -> None:
    """Let the new generation name what it keeps off, also what an earlier one keeps off that was not finished."""
    names = {each["name"] for move in run.intent["moves"] for each in entries(move, "unit")}
    if run.old_generation is not None:
        names.update(_unfinished(run.machine, run.old_generation))
    if names:
        run.machine.mkdir(f"{run.directory}/{DIRECTORY}")
    for name in sorted(names):
        run.machine.write(f"{run.directory}/{DIRECTORY}/{name}", b"")


def to_drain(run: Run) -> List[Dict[str, Any]]:
    """Return what is waited for before it is taken over, asked on the port of the service that takes its place."""
    found = []
    for move in run.intent["moves"]:
        members = {member["service"]: member for member in starting(move)}
        for each in entries(move):
            if each["is_up"] and each["service"] in members:
                blind = {"pause": None, "resume": None, "paused": None, "firewall": False, "must_pause": False}
                unit = each["name"] if each["kind"] == "unit" else ""
                found.append({**members[each["service"]], **blind, "service": each["name"], "unit": unit})
    return found


def take_over(run: Run, move: Dict[str, Any]) -> None:
    """Stop what a move takes over and keep it from starting until the transition has ended; nothing is killed."""
    all_ = entries(move)
    if not all_:
        return
    names = ", ".join(each["name"] for each in all_)
    with run.step("take_over", f"taking over {names}: stopped, and kept from starting", move["slot"]):
        run.touched.add(move["slot"])
        units = [each["name"] for each in entries(move, "unit")]
        if units:
            systemd.daemon_reload(run.machine)
            run.machine.mkdir(places.ADOPTING)
        for name in units:
            run.machine.write(f"{places.ADOPTING}/{name}", b"")
        up = [each["name"] for each in entries(move, "unit") if each["is_up"]]
        groups = step_stop.cgroups(run, up)
        if up:
            systemd.stop_adopted(run.machine, up, run.intent)
        for each in entries(move, "container"):
            if each["is_up"]:
                _stop_container(run, run.adoptees[each["name"]])
        longest = max((run.adoptees[name].stop_timeout_s for name in up), default=0.0)
        step_stop.wait_gone(run, groups, longest + step_stop.MARGIN_S)


def gone(move: Dict[str, Any]) -> List[str]:
    """Return the units that have nothing on the GPUs any more once a move has taken over what it does."""
    return [each["name"] for each in entries(move, "unit")]


def is_begun(run: Run, move: Dict[str, Any]) -> bool:
    """Say whether an executor that is gone had begun to take over what a move does."""
    marked = any(run.machine.stat(f"{places.ADOPTING}/{each['name']}") is not None for each in entries(move, "unit"))
    return marked or any(each["is_up"] and not _serves(run, each) for each in entries(move, "container"))


def give_back(run: Run, move: Dict[str, Any]) -> None:
    """Bring back what a move took over, as it was; HaltError when it does not come up. Its drop-in is gone by now."""
    before = {each["name"]: each for each in (step_undo.read_undo(run.machine, run.txid) or {}).get("adopted", ())}
    _unmark(run.machine, [each["name"] for each in entries(move, "unit")])
    for each in entries(move, "container"):
        _restore_policy(run.machine, before.get(each["name"]), run.intent)
    # One that still stops is down soon: its start waits for that.
    down = [each for each in entries(move) if each["is_up"] and not _serves(run, each)]
    if not down:
        return
    names = ", ".join(each["name"] for each in down)
    run.note(f"bringing {names} back")
    step_memory.wait_free(run, _need(move, [before.get(each["name"]) for each in down]), units_of(starting(move)))
    units = [each["name"] for each in down if each["kind"] == "unit"]
    if units:
        systemd.start_adopted(run.machine, units, run.intent)
    for each in down:
        if each["kind"] == "container":
            _podman(run.machine, ["start"], each["name"], run.intent)
    _wait_up(run, down)
    run.note(f"{names} runs again", "done")


def hold_containers(run: Run) -> None:
    """Let podman not start again what was taken over; to be called right before the commit."""
    for move in run.intent["moves"]:
        for each in entries(move, "container"):
            if run.adoptees[each["name"]].restart not in ("", _NONE):
                _podman(run.machine, ["update", f"--restart={_NONE}"], each["name"], run.intent)


def put_off(machine: Machine, number: int) -> bool:
    """Disable or mask the units that a committed generation keeps off, for good; say whether there were any.

    Done again it does nothing. Only links that start a unit are removed, and only a mask is put where no file is.
    """
    names = _unfinished(machine, number)
    for name in names:
        if adoptee.is_own_file(machine, name):
            for path in sorted(adoptee.links(machine, name)):
                machine.remove(path)
        else:
            machine.symlink("/dev/null", f"{places.NATIVE}/{name}")
        # The generation names it, so the mark is not needed; the drop-in goes last, for it is what is looked for.
        machine.remove(f"{places.ADOPTING}/{name}")
        machine.remove(_drop_in(name))
        remove_empty(machine, f"{places.NATIVE}/{name}.d")
    return bool(names)


def let_go(machine: Machine) -> None:
    """Let what is still marked as down start again: to be called after a commit, when what it keeps off is put off.

    Whoever marked it was left held, and git went another way since. Nothing is started for it.
    """
    for name in files.names_in(machine, places.ADOPTING):
        machine.remove(_drop_in(name))
        remove_empty(machine, f"{places.NATIVE}/{name}.d")
        machine.remove(f"{places.ADOPTING}/{name}")


def settle_back(machine: Machine, txid: str, undo: Dict[str, Any]) -> List[str]:
    """Bring back what a reboot before the commit left: drop-ins are put back already, containers may be held.

    Returns the containers that were started.
    """
    for each in undo.get("adopted", ()):
        remove_empty(machine, f"{places.NATIVE}/{each['name']}.d")
    held = [each for each in undo.get("adopted", ()) if each["kind"] == "container"]
    if not held:
        return []
    try:
        intent = transactions.read_book(machine, txid, "intent.json")
    except (OSError, RecordError):
        return []
    started = []
    for each in held:
        _restore_policy(machine, each, intent)
        (now,) = adoptee.look(machine, [each["name"]])
        if each["is_up"] and each["restart"] in adoptee.STARTS_AGAIN and now.active not in _SERVING:
            _podman(machine, ["start"], each["name"], intent)
            started.append(each["name"])
    return started


def remove_empty(machine: Machine, directory: str) -> None:
    """Remove a directory of drop-ins that has none left."""
    if machine.stat(directory) is not None and not machine.listdir(directory):
        machine.remove_tree(directory)


def _unfinished(machine: Machine, number: int) -> List[str]:
    """Return the units that a generation keeps off and whose drop-in is still there."""
    named = files.names_in(machine, f"{places.generation(number)}/{DIRECTORY}")
    return [name for name in named if adoptee.is_name(name) and machine.stat(_drop_in(name)) is not None]


def _drop_in(name: str) -> str:
    return f"{places.NATIVE}/{name}.d/{DROP_IN}"


def _unmark(machine: Machine, names: List[str]) -> None:
    for name in names:
        machine.remove(f"{places.ADOPTING}/{name}")


def _serves(run: Run, each: Dict[str, Any]) -> bool:
    (now,) = adoptee.look(run.machine, [each["name"]])
    return now.active in _SERVING


def _wait_up(run: Run, down: List[Dict[str, Any]]) -> None:
    """Wait until what was started is active and stays so; HaltError REC7492 when one failed, or at the deadline.

    A unit whose program ends at once is active for a moment each time that systemd starts it again. One that was
    started so often will not stay up by being waited for.
    """
    machine = run.machine
    ends, before, since = machine.monotonic() + _START_S, [""], machine.monotonic()
    starts: Dict[str, Set[str]] = {each["name"]: set() for each in down}
    while True:
        found = adoptee.look(machine, [each["name"] for each in down])
        runs = [now.run if now.active in _SERVING else "" for now in found]
        if runs != before or not all(runs):
            before, since = runs, machine.monotonic()
        elif machine.monotonic() - since >= _STEADY_S:
            return
        for now in found:
            starts[now.name].update([now.run] if now.is_up else [])
        # Its start may wait for others, as for the network; until then it is inactive.
        ended = [f"{now.name} is {now.active or 'gone'}" for now in found if not (now.is_up or now.is_queued)]
        often = {name: len(times) for name, times in starts.items() if len(times) >= _STARTS}
        ended += [f"{name} was started {times} times and does not stay up" for name, times in often.items()]
        if ended or machine.monotonic() >= ends:
            text = "; ".join(ended) or f"{', '.join(now.name for now in found)} not up for long in {_START_S:g} s"
            fix = f"look at it on the host: systemctl status {found[0].name}"
            raise HaltError("REC7492", f"what was taken over did not come back: {text}", fix=fix)
        machine.sleep(_POLL_S)


def _need(move: Dict[str, Any], before: List[Optional[Dict[str, Any]]]) -> step_memory.Need:
    """Return what they held before, or where that was not told as much as what takes their place."""
    sizes = [each["bytes"] if each else None for each in before]
    if any(size is None for size in sizes):
        return step_memory.need_of(move)
    total = sum(size for size in sizes if size is not None)
    # No reserve: it had none to leave, and what it held fits again whatever that leaves of the host.
    per_gpu = -(-total // max(1, len(move["gpus"])))
    return step_memory.need_of(move)._replace(total=total, per_gpu=per_gpu, reserve=0)


def _held(run: Run, now: Adoptee) -> Optional[int]:
    """Return the GPU memory that it holds, None when that is not told."""
    sizes = [size for gpu in known(run.state["gpus"]) or [{}] for size in _sizes(gpu, now)]
    return None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)


def _sizes(gpu: Dict[str, Any], now: Adoptee) -> Iterator[Optional[int]]:
    processes = known(gpu.get("processes"))
    if processes is None:
        yield None
        return
    for process in processes:
        is_its = process["container"] == now.container if now.container else process["unit"] == now.name
        if is_its:
            yield known(process["bytes"])


def _stop_container(run: Run, now: Adoptee) -> None:
    """Stop a container that podman runs by itself and wait until its control group is empty."""
    _podman(run.machine, ["stop"], now.name, run.intent, now.stop_timeout_s + _PODMAN_S)
    ends = run.machine.monotonic() + step_stop.MARGIN_S
    while systemd.is_populated(run.machine, now.cgroup) is not False:
        if run.machine.monotonic() >= ends:
            raise HaltError("REC7102", f"container {now.name} still has processes", fix=f"podman top {now.name}")
        run.machine.sleep(_POLL_S)


def _restore_policy(machine: Machine, before: Optional[Dict[str, Any]], intent: Dict[str, Any]) -> None:
    if before is None or before["restart"] in ("", _NONE):
        return
    (now,) = adoptee.look(machine, [before["name"]])
    if now.kind == "container" and now.restart != before["restart"]:
        _podman(machine, ["update", f"--restart={before['restart']}"], before["name"], intent)


def _podman(
    machine: Machine, words: List[str], name: str, intent: Dict[str, Any], timeout_s: float = _PODMAN_S
) -> None:
    """Do something to a container that the order names, the only way there is."""
    if name not in systemd.adopted_by(intent) or name.endswith(adoptee.SERVICE):
        raise systemd.ForeignUnitError(f"{clean(name, 200)}: no container that this order takes over")
    done = machine.run(["podman", *words, "--", name], timeout_s)
    if done.rc != 0:
        said = clean(done.err or done.out, 300) or f"exit status {done.rc}"
        raise SystemdError(f"podman {words[0]} {name}: {said}")

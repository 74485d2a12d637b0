"""Verify memory: nothing starts before what it needs is measured as free, three times in a row.

A process that exited has not necessarily given its memory back, and a driver that does not answer has not said that
there is room. So unknown is "not free", and at the deadline every holder is named.

Must not: end a process, whoever it belongs to.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from . import baseline, given_gpus, gpu, holders, memory, places
from .machine import Machine
from .txn import HaltError, Run, known, units_of

_SAMPLES = 3
_POLL_S = (0.25, 1.0)
_GPU_TIMEOUT_S = 10.0
_MIB = 1 << 20
_SMALL = 64 << 20
# As the planner has it, for hosts where no slot moves and nobody says.
_RELEASE_S = {"discrete": 60.0, "unified": 240.0, "gh200": 60.0}


class Need(NamedTuple):
    """What must be free: on every GPU named, or of the host's memory where the GPU shares it.

    `gpus` are UUIDs or indexes; None: no GPU is used, so only a host whose memory they share is asked.
    """

    memory_class: str
    gpus: Optional[Sequence[str]]
    total: int
    per_gpu: int
    reserve: int
    timeout_s: float
    drop_caches: bool = False


class Sample(NamedTuple):
    """One look: the free bytes by name, what is wrong with them (empty: enough), and who holds memory.

    `cache_would_do`: a program that takes the page cache for used would not find its room, and would without the cache.
    `at_most`: the free bytes when the page cache counts as free.
    """

    free: Dict[str, int]
    problem: str
    holders: List[str]
    unlisted: str = ""
    cache_would_do: bool = False
    at_most: Optional[Dict[str, int]] = None


def need_of(move: Dict[str, Any]) -> Need:
    """Return what the new side of a move needs."""
    return Need(
        memory_class=move["memory_class"],
        gpus=move["gpus"],
        total=move["need_bytes"],
        per_gpu=move["need_bytes_per_gpu"],
        reserve=move["reserve_bytes"],
        timeout_s=move["memory_timeout_s"],
        drop_caches=bool(move.get("drop_caches")),
    )


def need_of_members(run: Run, move: Dict[str, Any], members: List[Dict[str, Any]]) -> Need:
    """Return what members need that ran on the slot before: their own sizes, on the GPUs that they had then."""
    total = sum(int(member["memory"]) for member in members)
    gpus = given_gpus.before(run, units_of(members)) or move["gpus"]
    # No reserve: the one of the move is git's of now, and what ran fits again whatever it left of the host.
    return need_of(move)._replace(gpus=gpus, total=total, per_gpu=-(-total // max(1, len(gpus))), reserve=0)


def need_of_residents(run: Run, members: Sequence[Dict[str, Any]]) -> Need:
    """Return what residents need: they may use every GPU of the host, and what they declare is over all together."""
    using = [member for member in members if _uses_gpu(run, member)]
    reserve = max((move["reserve_bytes"] for move in run.intent["moves"]), default=0)
    return _need_of_all(run, members, using)._replace(reserve=reserve)


def need_of_residents_before(run: Run, members: Sequence[Dict[str, Any]]) -> Need:
    """Return what residents need that ran before: by the files they ran from, whatever they left of the host."""
    return _need_of_all(run, members, [member for member in members if given_gpus.before(run, [member["unit"]])])


def _need_of_all(run: Run, members: Sequence[Dict[str, Any]], using: Sequence[Dict[str, Any]]) -> Need:
    kind = known(run.state["memory_class"]) or "discrete"
    counted = members if kind == "unified" else using
    total = sum(int(member["memory"]) for member in counted if int(member["memory"]) >= _SMALL)
    gpus = [each["uuid"] for each in known(run.state["gpus"]) or []]
    moves = run.intent["moves"]
    return Need(
        memory_class=kind,
        gpus=gpus if using else None,
        total=total,
        per_gpu=-(-total // max(1, len(gpus))),
        reserve=0,
        timeout_s=max((move["memory_timeout_s"] for move in moves), default=_RELEASE_S[kind]),
        drop_caches=any(move.get("drop_caches") for move in moves),
    )


def verify_residents(run: Run, need: Need, members: Sequence[Dict[str, Any]]) -> None:
    """Wait until residents that do not run fit."""
    if need.total:
        with run.step("verify_memory", "waiting until the memory is free"):
            wait_free(run, need, units_of(list(members)))


def _uses_gpu(run: Run, member: Dict[str, Any]) -> bool:
    """Say whether a unit gets a GPU, by the file it comes from; of a file that is not there nothing is known: yes."""
    for file in run.intent["quadlets"]:
        if places.unit_of(file["name"]) == member["unit"]:
            return any(line.startswith("AddDevice=nvidia.com/gpu") for line in file["content"].splitlines())
    return True


def verify_memory(run: Run, move: Dict[str, Any], gone: Sequence[str]) -> None:
    """Wait until the new side of a move fits."""
    with run.step("verify_memory", "waiting until the memory is free", move["slot"]):
        wait_free(run, need_of(move), gone)


def wait_free(run: Run, need: Need, gone: Sequence[str]) -> None:
    """Wait for three stable samples with room and no process of the stopped units; HaltError names the holders."""
    if not need.total:
        run.note("no GPU memory is needed", "skipped")
        return
    machine = run.machine
    ends = machine.monotonic() + need.timeout_s
    pause_s = _POLL_S[0]
    steady: List[Sample] = []
    dropped = False
    while True:
        sample = take_sample(machine, need, gone)
        if need.drop_caches and sample.cache_would_do and not dropped:
            dropped = True
            drop_caches(run)
            continue
        if sample.problem or not _is_steady(steady, sample):
            steady = []
        if not sample.problem:
            steady.append(sample)
        if len(steady) >= _SAMPLES:
            if need.gpus and not sample.holders:
                baseline.note(machine, sample.at_most or {})
            run.note("free: " + ", ".join(f"{name} {size // _MIB} MiB" for name, size in sorted(sample.free.items())))
            return
        if machine.monotonic() >= ends:
            text = _diagnosis(need, sample, baseline.missing(machine, sample.at_most or {}))
            raise HaltError("REC7103", text, fix=f"recon status --host {run.intent['host']}")
        run.progress(sample.problem or "free, and not steady yet")
        machine.sleep(pause_s)
        pause_s = min(_POLL_S[1], pause_s * 1.5)


def take_sample(machine: Machine, need: Need, gone: Sequence[str]) -> Sample:
    """Measure once."""
    if need.gpus is None:
        return _host_sample(machine, need)
    seen = gpu.describe(machine, machine.gpu_facts(_GPU_TIMEOUT_S), need.memory_class, _GPU_TIMEOUT_S).gpus
    if "value" not in seen:
        return Sample({}, f"what the GPUs hold is not known: {seen.get('unknown') or seen.get('na')}", [])
    by_name = {name: each for each in seen["value"] for name in (each["uuid"], str(each["index"]))}
    missing = [name for name in need.gpus if name not in by_name]
    if missing or not need.gpus:
        return Sample({}, f"its GPUs are not there: {', '.join(missing) or 'it has none'}", [])
    slot = [by_name[name] for name in need.gpus]
    held = [holder for each in slot for holder in holders.on_gpu(each, gone)]
    problem = _processes_problem(slot, gone)
    if need.memory_class == "unified":
        sample = _host_sample(machine, need)
        return sample._replace(
            problem=problem or sample.problem, holders=held, cache_would_do=sample.cache_would_do and not problem
        )
    free = _free_gpus(slot)
    if free is None:
        return Sample({}, problem or "the free memory is not known", held)
    cached = {each["uuid"]: each["memory"]["value"].get("reclaimable", 0) for each in slot}
    at_most = {uuid: size + cached[uuid] for uuid, size in free.items()}
    short = _room_problem(need, free, slot)
    # Only a GPU that is a NUMA node of the host has any page cache; elsewhere the two figures are one.
    cache_would_do = bool(short) and not problem and min(at_most.values()) >= need.per_gpu
    return Sample(free, problem or short, held, holders.unlisted(slot), cache_would_do, at_most)


def _host_sample(machine: Machine, need: Need) -> Sample:
    """Look at the host's own memory. What counts is MemAvailable; page cache is told apart, for it is nobody's."""
    try:
        info = memory.meminfo(machine)
    except (OSError, ValueError):
        return Sample({}, "the free memory is not known", [])
    wanted = need.total + need.reserve
    free = {"host": info["available"]}
    problem = _room_problem(need, free, [])
    if problem:
        rest = f"{info['free'] // _MIB} MiB are not used at all, {info['cached'] // _MIB} MiB are page cache"
        problem = f"{problem} ({rest})"
    # What is not even available is no page cache, or none that can be dropped: tmpfs and locked pages count as cached.
    would_do = need.memory_class == "unified" and not problem and info["free"] < wanted
    return Sample(free, problem, [], cache_would_do=would_do, at_most=free)


def drop_caches(run: Run) -> None:
    """Let the kernel forget what it read: CUDA takes page cache for used, and a server would not find its room.

    On a GPU that is a NUMA node the driver does so too, and then nothing starts.
    """
    with run.step("drop_caches", "dropping the page cache"):
        try:
            before = memory.meminfo(run.machine)["free"]
            run.machine.poke(places.DROP_CACHES, b"3\n")
            after = memory.meminfo(run.machine)["free"]
        except (OSError, ValueError) as error:
            run.note(f"the page cache could not be dropped: {error}")
            return
        run.note(f"{(after - before) // _MIB} MiB more are free")


def _processes_problem(slot: List[Dict[str, Any]], gone: Sequence[str]) -> str:
    for each in slot:
        processes = each["processes"]
        if "value" not in processes:
            return f"who is on {each['uuid']} is not known: {processes.get('unknown') or processes.get('na')}"
        left = [process for process in processes["value"] if process["unit"] in gone]
        if left:
            return f"{left[0]['unit']} still has process {left[0]['pid']} on {each['uuid']}"
    return ""


def _free_gpus(slot: List[Dict[str, Any]]) -> Optional[Dict[str, int]]:
    figures = {each["uuid"]: each["memory"].get("value") for each in slot}
    if any(figure is None for figure in figures.values()):
        return None
    return {uuid: int(figure["free"]) for uuid, figure in figures.items() if figure is not None}


def _room_problem(need: Need, free: Dict[str, int], slot: List[Dict[str, Any]]) -> str:
    wanted = need.total + need.reserve if need.memory_class == "unified" else need.per_gpu
    short = [f"{name} has {size // _MIB} MiB free" for name, size in sorted(free.items()) if size < wanted]
    if not short:
        return ""
    text = f"{', '.join(short)}, {-(-wanted // _MIB)} MiB are needed"
    cache = sum(each["memory"].get("value", {}).get("reclaimable", 0) for each in slot)
    return text + (f" ({cache // _MIB} MiB of what is used is page cache)" if cache else "")


def _is_steady(earlier: List[Sample], sample: Sample) -> bool:
    """Say whether free memory stands still: a figure that still moves is a release, or a start, under way."""
    if not earlier:
        return True
    last = earlier[-1].free
    return all(
        abs(size - last.get(name, 0)) <= max(holders.TOLERANCE, size // 50) for name, size in sample.free.items()
    )


def _diagnosis(need: Need, sample: Sample, lost: str) -> str:
    text = f"the memory is not free after {need.timeout_s:g} s: {sample.problem or 'the free figure does not settle'}"
    if sample.holders:
        text = f"{text}; {'; '.join(sample.holders)}"
    if sample.unlisted:
        text = f"{text}; {sample.unlisted}"
    # Whoever is there explains it better.
    return f"{text}; {lost}" if lost and not sample.holders else text

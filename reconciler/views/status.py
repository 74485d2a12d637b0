"""What hosts run, as a table and as data.

Must not: call something fine that is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model import live, week
from reconciler.model.base import format_duration, format_size
from reconciler.model.desired import Fleet, Host
from reconciler.model.intent_schedule import SlotNow
from reconciler.model.observed import (
    Gpu,
    Health,
    HostState,
    Known,
    Lease,
    NotApplicable,
    Observation,
    Unit,
    Unknown,
    Unreachable,
)
from reconciler.views.escape import one_line
from reconciler.views.locks import lock_notes
from reconciler.views.loop import loop_lines
from reconciler.views.outbox import outbox_lines
from reconciler.views.paint import Paint
from reconciler.views.table import table

ALL_IS_WELL = "all is well"
"""What the watchdog of a host says when there is nothing to say."""
_LOOK_S = 30.0
_FIRST_LOOKS = 2
"""So many times its pause after a boot, or after a commit, the watchdog is late with its first look."""
_HEAD = ("HOST", "SLOT", "RUNS", "DECLARED", "SERVICES", "MEMORY USED", "GENERATION", "LAST")


def status_document(fleet: Fleet, answers: Mapping[str, Observation]) -> dict[str, Any]:
    """Return everything that was observed, host by host, in the usual envelope."""
    lost = [name for name, answer in answers.items() if isinstance(answer, Unreachable)]
    return {
        "format_version": "1.0",
        "command": "status",
        "status": "incomplete" if lost else "ok",
        "fleet": fleet.name,
        "hosts": {
            name: {
                "reachable": isinstance(answer, HostState),
                **answer.model_dump(mode="json"),
                **_in_force_document(fleet.hosts.get(name), answer),
            }
            for name, answer in sorted(answers.items())
        },
    }


def _in_force(host: Host, state: HostState) -> dict[str, SlotNow]:
    """Return by slot what the schedule says now, by the host's own clock; nothing for a host without windows."""
    spec = week.spec_of(host)
    if spec is None:
        return {}
    committed = live.committed_manifest(state).live
    return {now.slot: now for now in week.now_of(spec, committed, state.identity.wall_time)}


def _in_force_document(host: Host | None, answer: Observation) -> dict[str, Any]:
    now = _in_force(host, answer) if host is not None and isinstance(answer, HostState) else {}
    return {"in_force": [each.model_dump(mode="json") for each in now.values()]} if now else {}


def status_lines(
    hosts: tuple[Host, ...],
    answers: Mapping[str, Observation],
    paint: Paint,
    *,
    details: bool,
    hidden: frozenset[str] = frozenset(),
) -> Iterator[str]:
    """Yield a table with a line per slot, then what needs a person's eye, then units when details are asked for.

    Units that are `hidden` are left out while they are well.
    """
    rows = [row for host in hosts for row in _rows(host, answers[host.name], paint, hidden)]
    yield from table(_HEAD, rows, paint)
    for host in hosts:
        answer = answers[host.name]
        if isinstance(answer, Unreachable):
            yield f"{paint(host.name, 'bold')}: {paint('unreachable', 'red')} [{answer.code}] {one_line(answer.reason)}"
        else:
            yield from _notes(host, answer, paint)
            yield from _watchdog(host, answer, paint, details=details)
            yield from _schedule(host, answer, paint)
            yield from loop_lines(host, answer, paint, details=details)
            yield from outbox_lines(paint(host.name, "bold"), answer, paint, details=details)
            if details:
                yield from _details(host, answer, paint, hidden)


def _rows(host: Host, answer: Observation, paint: Paint, hidden: frozenset[str]) -> Iterator[tuple[str, ...]]:
    if isinstance(answer, Unreachable):
        yield (host.name, "?", paint("unreachable", "red"), _declared(host), "?", "?", "?", "?")
        return
    in_force = _in_force(host, answer)
    for slot in host.slots:
        wanted = in_force[slot.name].coven if slot.name in in_force else slot.coven
        found = live.live_covens(host, answer)[slot.name] if isinstance(answer.units, Known) else None
        runs = "?" if found is None else one_line(" + ".join(found)) or "nothing"
        as_declared = found == ((wanted,) if wanted else ())
        yield (
            host.name,
            slot.name,
            paint(runs, "green" if as_declared else "yellow"),
            (wanted or "nothing") + (" (schedule)" if wanted != slot.coven else ""),
            _services(found[0], answer, paint, hidden) if found else "–",
            _memory(host, slot.name, answer),
            _generation(answer),
            _last(answer, paint),
        )


def _declared(host: Host) -> str:
    return ", ".join(slot.coven or "nothing" for slot in host.slots)


def _services(coven: str, state: HostState, paint: Paint, hidden: frozenset[str]) -> str:
    group = live.committed_manifest(state).running_group(coven)
    units = live.units_by_name(state)
    members = group.members if group else ()
    shown = [member for member in members if member.unit not in hidden or not _is_well(units.get(member.unit), state)]
    if members and not shown:
        return f"{len(members)} hidden"
    return (
        ", ".join(f"{one_line(member.service)} {_unit_word(units.get(member.unit), state, paint)}" for member in shown)
        or "?"
    )


def _is_well(unit: Unit | None, state: HostState) -> bool:
    """Say whether no eye is needed: it is up, and its health, where it has one, is known to be good."""
    if unit is None or unit.active != "active" or unit.sub.startswith("auto-restart"):
        return False
    health = state.health.get(unit.name)
    return health is None or isinstance(health, NotApplicable) or (isinstance(health, Known) and health.value.ok)


def _unit_word(unit: Unit | None, state: HostState, paint: Paint) -> str:
    if unit is None:
        return paint("missing", "red")
    health = state.health.get(unit.name)
    ill = unit.active != "active" or (isinstance(health, Known) and not health.value.ok)
    if ill and unit.active in live.UP and unit.restarts + unit.sub.startswith("auto-restart") >= live.CRASHES:
        return paint(one_line(live.crashes(unit) or ""), "red")
    if unit.active != "active":
        return paint(one_line(unit.active), "red")
    if isinstance(health, Known):
        if health.value.slow:
            return paint(f"slow ({one_line(health.value.detail)})", "yellow")
        ill_word = _ill_word(health.value)
        return paint("ok", "green") if health.value.ok else paint(ill_word, "yellow")
    return paint("up, health unknown", "yellow") if isinstance(health, Unknown) else paint("up", "green")


def _ill_word(health: Health) -> str:
    if health.asleep:
        return one_line(health.detail)
    return f"unhealthy ({health.status})" if health.status else f"dead ({one_line(health.detail)[:60]})"


def _memory(host: Host, slot: str, state: HostState) -> str:
    if isinstance(state.memory_class, Known) and state.memory_class.value == "unified":
        if not isinstance(state.meminfo, Known):
            return "unknown"
        memory = state.meminfo.value
        return f"{format_size(memory.total - memory.available)} of {format_size(memory.total)} (unified)"
    gpus = live.slot_gpus(host, slot, state)
    if gpus is None or not isinstance(state.memory_class, Known):
        return "unknown"
    return ", ".join(_gpu_memory(gpu) for gpu in gpus) or "no GPU"


def _gpu_memory(gpu: Gpu) -> str:
    if isinstance(gpu.memory, Known):
        return f"{format_size(gpu.memory.value.used)} of {format_size(gpu.memory.value.total)}"
    return "n/a" if isinstance(gpu.memory, NotApplicable) else "unknown"


def _generation(state: HostState) -> str:
    if not isinstance(state.generation, Known):
        return "unknown"
    return str(state.generation.value.number) if state.generation.value else "none yet"


def _last(state: HostState, paint: Paint) -> str:
    last = state.executor.last
    if state.executor.active:
        return paint("in transition", "magenta")
    if not isinstance(last, Known):
        return "–" if isinstance(last, NotApplicable) else "unknown"
    word = one_line(str(last.value.get("state", "?")))
    ended = live.last_ended(state)
    ago = "at a time unknown"
    if ended is not None:
        ago = f"{format_duration(max(0.0, round(state.identity.wall_time - ended)))} ago"
    style = "green" if word in {"applied", "nothing"} else "red"
    return f"{paint(word.replace('_', ' '), style)} {ago}"


def _notes(host: Host, state: HostState, paint: Paint) -> Iterator[str]:
    name = paint(host.name, "bold")
    yield from _claim_notes(host, state, paint)
    if isinstance(state.hold, Known) and state.hold.value:
        hold = state.hold.value
        who = f"{one_line(hold.owner)}{live.until(hold)}"
        yield f"{name}: {paint('held', 'yellow')} by {who}: {one_line(hold.reason)}"
    yield from lock_notes(host.name, state, paint)
    last = state.executor.last
    if isinstance(last, Known) and last.value.get("state") not in ("applied", "nothing", None):
        ended = one_line(str(last.value.get("state"))).replace("_", " ")
        yield f"{name}: last transaction {ended}: {one_line(str(last.value.get('reason', '')))}"
        if last.value.get("fix"):
            yield f"  {paint(one_line(str(last.value['fix'])), 'cyan')}"
    ours = frozenset(unit for unit in live.units_by_name(state)) | {shared.unit for shared in host.shared}
    for gpu in state.gpus.value if isinstance(state.gpus, Known) else ():
        for process in live.foreign_processes(gpu.processes.value if isinstance(gpu.processes, Known) else (), ours):
            yield f"{name}: {paint('foreign', 'red')} on GPU {gpu.index}: {one_line(live.describe(process))}"
        if isinstance(gpu.processes, Unknown):
            yield f"{name}: {paint('unknown', 'red')} who uses GPU {gpu.index}: {one_line(gpu.processes.unknown)}"
    yield from _down(name, state, paint)
    yield from _loop(name, state, paint)
    yield from _share(name, state, paint)
    if isinstance(state.hold, Unknown):
        yield f"{name}: {paint('unknown', 'red')} whether it is held: {one_line(state.hold.unknown)}"
    if isinstance(last, Unknown) and not state.executor.active:
        yield f"{name}: {one_line(last.unknown)}; look with recon plan --host {host.name}"
    if isinstance(state.gpus, Unknown):
        yield f"{name}: {paint('GPUs unknown', 'red')}: {one_line(state.gpus.unknown)}"
    for damage in state.damaged:
        said = one_line(f"[{damage.code}] {damage.path}: {damage.reason}")
        yield f"{name}: {paint('damaged', 'red')} {said}"
    for note in state.notes:
        yield f"{name}: {one_line(note)}"


def _down(name: str, state: HostState, paint: Paint) -> Iterator[str]:
    """Say what people have down, and what they started against a guardrail."""
    if isinstance(state.down, Unknown):
        yield f"{name}: {paint('unknown', 'red')} what people have down: {one_line(state.down.unknown)}"
    if not isinstance(state.down, Known):
        return
    marks = state.down.value
    for what, mark in (("spiral", marks.spiral), ("coven", marks.coven)):
        if mark is not None:
            by = f"by {one_line(mark.owner)}: {one_line(mark.reason)}"
            yield f"{name}: {paint('held', 'yellow')} {what} is down {by}; recon up {what} --host {name}"
    if marks.forced is not None:
        against = one_line("; ".join(marks.forced.against))
        by = f"by {one_line(marks.forced.owner)}: {one_line(marks.forced.reason)}"
        yield f"{name}: {paint('forced', 'red')} the spiral was started {by}, against {against}"


def _loop(name: str, state: HostState, paint: Paint) -> Iterator[str]:
    """Say what nobody does for the spiral, and which guardrails do not hold, whatever is known of people's marks."""
    for text in live.unattended(state):
        yield f"{name}: {paint('spiral', 'yellow')} {one_line(text)}"
    if isinstance(state.spiral, Known):
        for guardrail in state.spiral.value.broken():
            said = one_line(f"guardrail {guardrail.name} is {guardrail.state}: {guardrail.text}")
            yield f"{name}: {paint('spiral', 'yellow')} {said}"


def _share(name: str, state: HostState, paint: Paint) -> Iterator[str]:
    """Say what a host has mounted of its share, or does not export, and how it is about the marker."""
    share = state.spiral.value.share if isinstance(state.spiral, Known) else None
    if share is None:
        return
    said = [f"{share.mounted} is mounted"] if share.mounted else []
    said += [share.text, *(f"{unit} is up and exports nothing" for unit in share.unexported)]
    said += [f"what is mounted or exported is not known: {share.unread}"] if share.unread else []
    well = share.marker == "there" and not share.unexported and not share.unread
    yield f"{name}: {paint('share', 'green' if well else 'yellow')} {one_line('; '.join(said))}"


def _watchdog(host: Host, state: HostState, paint: Paint, *, details: bool) -> Iterator[str]:
    """Say which alerts stand on the host, and what its watchdog saw last when all is not well or somebody asks."""
    name = paint(host.name, "bold")
    if isinstance(state.watchdog, Unknown):
        yield f"{name}: {paint('watchdog unknown', 'red')}: {one_line(state.watchdog.unknown)}"
    if not isinstance(state.watchdog, Known):
        return
    seen = state.watchdog.value
    for alert in seen.alerts:
        said = one_line(f"[{alert.code}] {alert.about}: {alert.text}")
        yield f"{name}: {paint('alert', 'red', 'bold')} {said}"
        yield f"  {paint(one_line(alert.fix), 'cyan')}"
    if seen.looked_s is None:
        # Its first look comes some time after the boot, or after the commit that brought it.
        if live.quiet_s(state) > _FIRST_LOOKS * (host.watchdog.every if host.watchdog else _LOOK_S):
            yield f"{name}: watchdog has not looked since the host booted"
    elif details or seen.said != ALL_IS_WELL:
        yield f"{name}: watchdog looked {format_duration(round(seen.looked_s))} ago: {one_line(seen.said)}"
    for unit, count in sorted(seen.attempts.items()):
        yield f"{name}: watchdog restarted {one_line(unit)} {count} times in a row"


def _schedule(host: Host, state: HostState, paint: Paint) -> Iterator[str]:
    """Say what is in force and what comes next, and what the host's last look came to where that is not all well."""
    name = paint(host.name, "bold")
    for now in _in_force(host, state).values():
        yield f"{name}: {one_line(week.said(now))}"
    if isinstance(state.schedule, Known) and state.schedule.value.said:
        said = one_line(state.schedule.value.said)
        if not said.startswith("as it should be"):
            yield f"{name}: schedule {said}"


def _claim_notes(host: Host, state: HostState, paint: Paint) -> Iterator[str]:
    """Yield who has the host: a transition that runs, a claim that cannot be read, one that a dead executor left."""
    name = paint(host.name, "bold")
    lease = state.lease.value if isinstance(state.lease, Known) else None
    if isinstance(state.lease, Unknown):
        yield f"{name}: {paint('unknown', 'red')} whether somebody has it: {one_line(state.lease.unknown)}"
        epoch = state.epoch.value if isinstance(state.epoch, Known) else "N"
        fix = f"recon lock force-release {host.name} --epoch {epoch} --reason TEXT"
        yield f"  it counts as held; take it away with: {paint(fix, 'cyan')}"
    deed = live.deed(state)
    if deed:
        age = format_duration(max(0, round(state.identity.boottime_s - deed.since)))
        yield f"{name}: {paint(one_line(deed.owner), 'magenta')} has it for {age}: {one_line(deed.doing)}"
        yield "  it ends by itself; an apply is refused until then"
    elif lease and not state.executor.active:
        yield f"{name}: {one_line(lease.owner)} left a claim of epoch {lease.epoch} behind, which is void"
    if state.executor.active:
        doing = f", step {one_line(lease.step)}, by {one_line(lease.owner)}" if lease else ""
        txid = one_line(state.executor.txid or "TXID")
        yield f"{name}: {paint('transition running', 'magenta')} {txid}{doing}; it ends by itself"
        yield f"  follow it: {paint(f'recon apply --attach {txid} --host {host.name}', 'cyan')}"
        if lease:
            yield f"  {_claim(lease, state)}"


def _claim(lease: Lease, state: HostState) -> str:
    """Say how old a claim is and whether its holder lately showed that it lives, by the host's own clock since boot."""
    now = state.identity.boottime_s
    age, silent = (format_duration(max(0, round(now - since))) for since in (lease.since, lease.renewed))
    word = "fresh" if live.is_fresh(lease, state) else "not renewed in time: the executor hangs or is stopped"
    return f"claim of epoch {lease.epoch}, held for {age}, renewed {silent} ago ({word})"


def _details(host: Host, state: HostState, paint: Paint, hidden: frozenset[str]) -> Iterator[str]:
    yield ""
    identity = state.identity
    yield paint(f"{host.name}: {one_line(identity.hostname)}, kernel {one_line(identity.kernel)}", "bold")
    for label, fact in (("systemd", identity.systemd), ("podman", identity.podman), ("driver", identity.driver)):
        yield f"  {label:<10} {_fact(fact)}"
    every = sorted(live.units_by_name(state).values(), key=lambda unit: unit.name)
    units = [unit for unit in every if unit.name not in hidden or not _is_well(unit, state)]
    rows = [
        (
            one_line(unit.name),
            one_line(f"{unit.active} ({unit.sub})"),
            str(unit.restarts),
            _fact(unit.config_hash),
            one_line(unit.source),
        )
        for unit in units
    ]
    yield from table(("UNIT", "STATE", "RESTARTS", "CONFIG", "SOURCE"), rows, paint)


def _fact(fact: object) -> str:
    if isinstance(fact, Known):
        return one_line(str(fact.value))
    if isinstance(fact, Unknown):
        return f"unknown: {one_line(fact.unknown)}"
    return "–"

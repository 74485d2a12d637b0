"""Ordered rules that may refuse a host's plan. Each tells its story; all that apply are shown at once.

Pure. Must not: change the plan; a guard says no, or nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from reconciler.model import live
from reconciler.model.base import format_size
from reconciler.model.observed import Known
from reconciler.model.plan import Refusal
from reconciler.planner.budget import why
from reconciler.planner.case import Case, Guard
from reconciler.planner.guards_held import nobody_holds_it, nobody_locked_it
from reconciler.planner.guards_models import models_are_there
from reconciler.planner.guards_names import names_are_free
from reconciler.planner.guards_schedule import schedule_can_be_carried_out
from reconciler.planner.guards_scope import user_has_bus, user_lingers
from reconciler.planner.guards_share import share_can_be_made
from reconciler.planner.guards_spiral import guardrails_hold, nobody_has_it_down
from reconciler.planner.renew import untold
from reconciler.planner.takeover import can_be_taken_over, is_taken_over


def refusals(case: Case) -> tuple[Refusal, ...]:
    """Return every reason why this host's plan must not be carried out."""
    return tuple(refusal for guard in GUARDS for refusal in guard(case))


def _facts_are_known(case: Case) -> Iterator[Refusal]:
    """What cannot be read cannot be compared; a plan made on it would be a guess."""
    for name, fact in (
        ("units", case.state.units),
        ("managed files", case.state.files),
        ("committed generation", case.state.generation),
        ("what starts at boot", case.state.boot_targets),
    ):
        if not isinstance(fact, Known):
            yield Refusal(
                code="REC8008",
                summary=f"{name} of {case.host.name} are unknown",
                detail=why(fact),
                fix=f"recon status --host {case.host.name} --output json",
            )
    generation = None if case.is_way_back else case.state.generation
    if isinstance(generation, Known) and generation.value and not isinstance(generation.value.manifest, Known):
        if case.subject.renews_manifest:
            yield from untold(case.subject)
            return
        yield Refusal(
            code="REC8008",
            summary=f"the manifest of generation {generation.value.number} on {case.host.name} cannot be trusted",
            detail=why(generation.value.manifest),
            fix=f"recon apply --host {case.host.name} --renew-manifest",
        )


def _machine_is_the_same(case: Case) -> Iterator[Refusal]:
    """A disk that was copied, or put into another machine, brings what was committed elsewhere along."""
    if not case.subject.is_another_machine or case.subject.renews_manifest or case.is_way_back:
        return
    there, here = case.subject.committed.machine_id, case.state.identity.machine_id
    yield Refusal(
        code="REC5013",
        summary=f"{case.host.name} is not the machine that it was",
        detail=f"what is committed there was committed on machine {there}; {case.host.address} is machine {here}",
        fix=f"check the address; if it is right: recon apply --host {case.host.name} --renew-manifest",
    )


def _platform_is_new_enough(case: Case) -> Iterator[Refusal]:
    """Older podman drops keys it does not know in silence, and before 5.3 has no /run tier for a trial."""
    identity, wanted = case.state.identity, case.host.platform
    for name, fact, least in (
        ("podman", identity.podman, wanted.podman),
        ("systemd", identity.systemd, wanted.systemd),
    ):
        if not isinstance(fact, Known):
            yield Refusal(
                code="REC2022", summary=f"the version of {name} is unknown", detail=why(fact), fix=f"install {name}"
            )
        elif _version(str(fact.value)) < _version(str(least)):
            yield Refusal(
                code="REC2022",
                summary=f"{name} {fact.value} is older than {least}",
                detail=f"the unit files of {case.host.name} are written for {name} {least}",
                fix=f"upgrade {name} on the host, or declare platform: {{{name}: …}} if it is 5.3 or newer",
            )


@functools.lru_cache(maxsize=64)
def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("-")[0].split(".") if part.isdigit())


def _something_is_declared(case: Case) -> Iterator[Refusal]:
    """A lost file must not read as "stop everything here"; of several empty slots `may_run` tells the difference.

    A way back goes by a manifest that was read and verified: empty there is what somebody had declared.
    """
    is_declared = bool(case.subject.rendered.groups or case.host.may_run or case.is_way_back)
    if not is_declared and case.subject.committed.groups:
        yield Refusal(
            code="REC8006",
            summary=f"nothing is declared for {case.host.name}, which has covens",
            detail="applying this would remove every unit of recon from the host",
            fix="name the covens in may_run: and leave out coven: to stop without removing",
        )


def _host_may_run(case: Case) -> Iterator[Refusal]:
    """`may_run` is the operator's word on what fits this machine."""
    for slot in case.host.slots:
        if slot.coven and slot.coven not in case.host.may_run:
            yield Refusal(
                code="REC8007",
                summary=f"{case.host.name} may not run {slot.coven}",
                detail=f"may_run: [{', '.join(case.host.may_run)}]",
                fix=f"add {slot.coven} to may_run: of {case.host.name}, or declare another coven",
            )


def _one_coven_per_slot(case: Case) -> Iterator[Refusal]:
    """Two covens enabled or up means that somebody else is deciding too (systemd drops one at boot in silence)."""
    for name, found in case.subject.running.items():
        if len(found) > 1:
            yield Refusal(
                code="REC8005",
                summary=f"slot {name} of {case.host.name} has more than one coven up: {', '.join(found)}",
                detail="a slot holds at most one coven",
                fix=f"on the host: systemctl stop recon-gate-{name}-{found[-1]}.service",
            )
    boot = case.state.boot_targets.value if isinstance(case.state.boot_targets, Known) else ()
    if len(boot) < 2:
        return
    known = {group.target: group.gate for group in case.subject.committed.groups}
    known |= {group.target: group.gate for group in case.subject.rendered.groups.values()}
    for slot in case.host.slots:
        prefix = f"recon-gate-{slot.name}-"
        enabled = sorted(target for target in boot if known.get(target, "").startswith(prefix))
        if len(enabled) > 1:
            yield Refusal(
                code="REC8005",
                summary=f"more than one coven is enabled on slot {slot.name} of {case.host.name}: {', '.join(enabled)}",
                detail="systemd would start one of them at boot and drop the other without a word",
                fix=f"on the host: systemctl disable {enabled[-1]}",
            )


def _names_are_ours(case: Case) -> Iterator[Refusal]:
    """The first file found wins: a file of ours in the wrong place, or without our header, decides what runs."""
    for file in case.subject.files:
        foreign_native = file.tier == "native" and file.owner is None
        if file.tier == "stray" or foreign_native:
            yield Refusal(
                code="REC8004",
                summary=f"{file.path} has a name of recon's and is not recon's",
                detail="it would shadow, or be shadowed by, a unit of this plan",
                fix=f"move it away on the host: mv {file.path} /root/",
            )
    owner = next((file.owner for file in case.subject.files if file.owner and file.tier == "committed"), None)
    if owner and owner not in {case.owner, case.host.formerly}:
        yield Refusal(
            code="REC8004",
            summary=f"the units on this machine belong to {owner}",
            detail=f"the plan is for {case.owner}: the address may be another machine's",
            fix=f"check address: in the host's file; after a rename, declare formerly: {owner}",
        )


def _covens_stay_on_their_slot(case: Case) -> Iterator[Refusal]:
    """A coven's units name one slot; moving it in one go would need both slots at once."""
    leaving = {move.old.coven: move.slot for move in case.moves if move.old and move.kind == "switch"}
    for move in case.moves:
        before = leaving.get(move.new.coven) if move.new and move.kind == "switch" else None
        if before and before != move.slot and move.new:
            yield Refusal(
                code="REC8011",
                summary=f"{move.new.coven} would move from slot {before} to {move.slot}",
                detail="one transition moves one slot",
                fix=f"first commit and apply slot {before} without it, then slot {move.slot} with it",
            )


def _slots_keep_their_name(case: Case) -> Iterator[Refusal]:
    """Gates of different slots do not conflict: what runs behind the gate of a lost slot would be overlooked."""
    is_up = case.subject.is_up
    declared = tuple(f"recon-gate-{slot.name}-" for slot in case.host.slots)
    for group in case.subject.committed.groups:
        if is_up(group.gate) and group.gate.startswith(declared):
            continue
        up = [unit for unit in group.units if is_up(unit)]
        if is_up(group.gate):
            yield Refusal(
                code="REC8011",
                summary=f"{group.coven} runs on a slot that {case.host.name} no longer declares",
                detail=f"its gate is {group.gate}",
                fix="keep the slot's name, or first commit and apply it without a coven, then rename it",
            )
        elif up:
            yield Refusal(
                code="REC8005",
                summary=f"{', '.join(up)} runs although its gate {group.gate} is down",
                detail="somebody started it past the gate, or it did not stop with it",
                fix=f"on the host: systemctl stop {' '.join(up)}",
            )


def _live_coven_is_known(case: Case) -> Iterator[Refusal]:
    """Without its manifest nobody knows how to drain what runs."""
    for change in case.changes:
        moved = next((move for move in case.moves if move.slot == change.slot), None)
        if change.kind == "coven" and change.before and moved and moved.old is None:
            yield Refusal(
                code="REC8010",
                summary=f"{change.before} runs on slot {change.slot} and nobody knows how to drain it",
                detail="neither git nor the committed generation describes it",
                fix=f"on the host: systemctl stop recon-gate-{change.slot}-{change.before}.service",
            )


def _memory_is_known_and_enough(case: Case) -> Iterator[Refusal]:
    """The law of the slot; on unified hosts running out takes the machine down, not the program."""
    moving = {move.slot for move in case.moves if move.new}
    resident = any(change.kind == "resident" for change in case.changes)
    for slot in case.host.slots:
        if slot.name not in moving and not resident:
            continue
        budget = case.budgets[slot.name]
        if budget.available is None:
            yield Refusal(
                code="REC8002",
                summary=f"the memory of slot {slot.name} on {case.host.name} is unknown",
                detail=budget.reason,
                fix="repair the driver, or declare memory: {kind: …} if the GPU cannot tell",
            )
        elif budget.need > budget.available:
            what = f"{slot.coven} does" if slot.coven else "what stays up does"
            yield Refusal(
                code="REC8001",
                summary=f"{what} not fit slot {slot.name} of {case.host.name}",
                detail=f"capacity {format_size(budget.capacity or 0)} - reserve {format_size(budget.reserve)}"
                f" - shared {format_size(budget.shared)} - residents {format_size(budget.residents)}"
                f" = {format_size(budget.available)}, needed {format_size(budget.need)}",
                fix="lower memory: of its services, or run it on a bigger host",
            )


def _gpus_are_there(case: Case) -> Iterator[Refusal]:
    """A slot names hardware; half of it is not the slot."""
    if not isinstance(case.state.gpus, Known):
        return
    seen: dict[str, str] = {}
    for slot in case.host.slots:
        gpus = live.slot_gpus(case.host, slot.name, case.state)
        for gpu in gpus or ():
            if gpu.uuid in seen:
                yield Refusal(
                    code="REC2029",
                    summary=f"GPU {gpu.index} of {case.host.name} is named twice: {seen[gpu.uuid]} and {slot.name}",
                    detail=f"an index and {gpu.uuid} are the same GPU",
                    fix="correct gpus: of the slots",
                )
            seen[gpu.uuid] = slot.name
        if gpus is None:
            there = ", ".join(f"{gpu.index}={gpu.uuid}" for gpu in case.state.gpus.value) or "none"
            yield Refusal(
                code="REC2008",
                summary=f"slot {slot.name} names GPUs that {case.host.name} does not have",
                detail=f"declared {', '.join(slot.gpus)}; there are {there}",
                fix="correct gpus: of the slot",
            )


def _nobody_else_is_on_it(case: Case) -> Iterator[Refusal]:
    """Never kill what recon did not start, and never start beside it."""
    for move in case.moves:
        if move.new is None:
            continue
        if not isinstance(case.state.gpus, Known):
            yield Refusal(
                code="REC8003",
                summary=f"who uses the GPUs of {case.host.name} is unknown",
                detail=why(case.state.gpus),
                fix=f"recon status --host {case.host.name}",
            )
            return
        for gpu in live.slot_gpus(case.host, move.slot, case.state) or ():
            if not isinstance(gpu.processes, Known):
                yield Refusal(
                    code="REC8003",
                    summary=f"who uses GPU {gpu.index} of {case.host.name} is unknown",
                    detail=why(gpu.processes),
                    fix=f"recon status --host {case.host.name}",
                )
                continue
            for process in live.foreign_processes(gpu.processes.value, case.subject.our_units):
                if is_taken_over(process, move, case.state):
                    continue
                held = format_size(process.bytes.value) if isinstance(process.bytes, Known) else "an unknown amount"
                yield Refusal(
                    code="REC8003",
                    summary=f"a foreign process holds memory on slot {move.slot} of {case.host.name}",
                    detail=f"{live.describe(process)}, {held}",
                    fix="stop it on the host, or declare its unit under shared: with its memory",
                )


GUARDS: tuple[Guard, ...] = (
    nobody_holds_it,
    nobody_locked_it,
    nobody_has_it_down,
    _facts_are_known,
    _machine_is_the_same,
    user_lingers,
    user_has_bus,
    _platform_is_new_enough,
    _something_is_declared,
    _host_may_run,
    _names_are_ours,
    can_be_taken_over,
    names_are_free,
    _one_coven_per_slot,
    _covens_stay_on_their_slot,
    _slots_keep_their_name,
    _live_coven_is_known,
    _gpus_are_there,
    _memory_is_known_and_enough,
    _nobody_else_is_on_it,
    schedule_can_be_carried_out,
    models_are_there,
    guardrails_hold,
    share_can_be_made,
)

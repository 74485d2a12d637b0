"""Ask a host for one of its generations, and make of the answer what `render` makes of git.

The answer comes from the host, so nothing in it is believed beyond its own sums: what a way back may do is decided by
the same guards as every plan.

Must not: plan, or change a host.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reconciler.errors import HostError, Problem, RefusedError
from reconciler.hosts.transport import Connect
from reconciler.model.base import Wire
from reconciler.model.desired import Host
from reconciler.model.intent import Group, Member, WatchdogSpec
from reconciler.model.intent_events import EventsSpec
from reconciler.model.intent_schedule import ScheduleSpec
from reconciler.model.intent_spiral import SpiralSpec
from reconciler.model.rendered import RenderedFile, RenderedHost
from reconciler.render.headers import split_header

DEADLINE_S = 45.0
QUADLET = ".container"
_GIVEN = "AddDevice=nvidia.com/gpu="
_NO_WAY_BACK = frozenset({"REC7033", "REC7034", "REC7035"})


class Written(BaseModel):
    """The manifest of a generation, as far as a way back needs it; every part must be there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fleet: str
    host: str
    owner: str
    source_commit: str
    live: dict[str, str | None]
    groups: tuple[Group, ...]
    residents: tuple[Member, ...]
    boot: tuple[str, ...]
    files: dict[str, str]
    watchdog: WatchdogSpec | None = None
    schedule: ScheduleSpec | None = None
    spiral: SpiralSpec | None = None
    events: EventsSpec | None = None


class GenerationReply(Wire):
    """What a host says about one of its generations; `there` are all it has."""

    number: int
    committed: int
    there: tuple[int, ...]
    manifest: Written
    files: dict[str, str]


def ask_generation(host: Host, connect: Connect, number: int | None, *, is_committed: bool = False) -> GenerationReply:
    """Ask a host for a generation: the one committed now if that is meant, else by its number, else the one before.

    Raises:
        RefusedError: it has no such generation, or not whole.
        HostError: it cannot be reached, or its answer is none.
    """
    transport = connect(host)
    try:
        args = {"number": number, "host": host.name, **({"committed": True} if is_committed else {})}
        return _checked(host, transport.ask("generation", args, deadline_s=DEADLINE_S))
    except HostError as exc:
        if exc.problems[0].code in _NO_WAY_BACK:
            raise RefusedError(*exc.problems) from exc
        raise
    finally:
        transport.close()


def rendered_of(host: Host, reply: GenerationReply) -> RenderedHost:
    """Return what the host's files were in that generation."""
    manifest = reply.manifest
    owners: dict[str, tuple[str | None, str | None]] = {
        _file_of(member): (group.coven, member.service) for group in manifest.groups for member in group.members
    }
    owners |= {name: (group.coven, None) for group in manifest.groups for name in (group.gate, group.target)}
    return RenderedHost(
        host=host.name,
        files=tuple(_file(name, text, *owners.get(name, (None, None))) for name, text in sorted(reply.files.items())),
        groups={group.coven: group for group in manifest.groups},
        residents=manifest.residents,
        boot=manifest.boot,
        live=manifest.live,
        watchdog=manifest.watchdog,
        schedule=manifest.schedule,
        spiral=manifest.spiral,
        events=manifest.events,
    )


def gpus_of(reply: GenerationReply, group: Group) -> frozenset[str]:
    """Return the GPUs that the members of a coven were given in that generation, as git had them; none without any."""
    lines = {line for member in group.members for line in reply.files.get(_file_of(member), "").splitlines()}
    return frozenset(line.removeprefix(_GIVEN) for line in lines if line.startswith(_GIVEN))


def _file_of(member: Member) -> str:
    return f"{member.unit.removesuffix('.service')}{QUADLET}"


def _checked(host: Host, answer: dict[str, Any]) -> GenerationReply:
    try:
        reply = GenerationReply.model_validate(answer)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])[:200]
        raise HostError(_not_whole(host, f"{field!a}: {first['msg']}")) from exc
    wrong = [name for name, text in reply.files.items() if reply.manifest.files.get(name) != _digest(text)]
    if wrong or set(reply.files) != set(reply.manifest.files):
        raise HostError(
            _not_whole(host, f"files that its manifest does not name so: {', '.join(sorted(wrong)) or 'some'}")
        )
    return reply


def _not_whole(host: Host, detail: str) -> Problem:
    return Problem(
        "REC7035", "the generation is not whole", f"{host.name}: {detail}", f"recon status --host {host.name}"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(split_header(text)[1].encode()).hexdigest()


def _file(name: str, text: str, coven: str | None, service: str | None) -> RenderedFile:
    head, body = split_header(text)
    return RenderedFile(
        name=name,
        kind="quadlet" if name.endswith(QUADLET) else "native",
        body=body,
        body_sha256=hashlib.sha256(body.encode()).hexdigest(),
        config_hash=head.config_hash if head else "",
        coven=coven,
        service=service,
    )

"""Ask every host what it is and what it runs: one request each, all at the same time.

A host that does not answer, or answers nonsense, becomes `Unreachable` with the code that says why: it is a state of
its own. Nothing here is an empty host.

Must not: change a host, compare, or show anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

from pydantic import ValidationError

from reconciler.errors import HostError, Problem
from reconciler.hosts.transport import Connect, Transport
from reconciler.model.desired import Fleet, Host
from reconciler.model.intent import Member
from reconciler.model.observed import HostState, Observation, Unreachable
from reconciler.model.rendered import RenderedHost
from reconciler.model.tokens import of_host

MAX_PARALLEL = 256
DEADLINE_S = 20.0
TRAVEL_S = 15.0
"""What a request may take on top of the probes: name look-up, connecting, login, the reply's way back."""


def observe_request(
    host: Host, rendered: RenderedHost | None = None, *, deadline_s: float = DEADLINE_S, tokens: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the arguments of `observe` for a host; what nobody needs of it is left out.

    Args:
        host: the host.
        rendered: what belongs on it: its images and models are looked for, and of files that differ the body is sent.
        deadline_s: what the probes together may take.
        tokens: of locks, so that the host says which are the asker's.
    """
    own = list(of_host(tokens, host.name)) if tokens else []
    files = rendered.files if rendered else ()
    models = [member for member in rendered.should_run() if member.model is not None] if rendered else []
    return {
        "shared": [{"unit": shared.unit, "health": shared.health} for shared in host.shared],
        "memory": host.memory.kind,
        "images": list(rendered.images()) if rendered else [],
        "expect": {file.name: file.body_sha256 for file in files},
        "deadline_s": deadline_s,
        **({"zones": sorted({window.timezone for window in host.schedule})} if host.schedule else {}),
        **({"models": [_model(member) for member in models]} if models else {}),
        **({"tokens": own} if own else {}),
        **({"adopts": list(rendered.adopts())} if rendered and rendered.adopts() else {}),
        **({"containers": list(rendered.container_names())} if rendered and rendered.container_names() else {}),
        # Guardrails look at every process, so nobody is asked who declares no spiral.
        **({"spiral": rendered.spiral.model_dump(mode="json")} if rendered and rendered.spiral else {}),
    }


def _model(member: Member) -> dict[str, Any]:
    return {"unit": member.unit, "check": member.model.model_dump(mode="json") if member.model else None}


def observe_host(
    host: Host,
    transport: Transport,
    rendered: RenderedHost | None = None,
    *,
    deadline_s: float = DEADLINE_S,
    tokens: Sequence[str] = (),
) -> Observation:
    """Ask one host; never raises for what the host or the way to it does."""
    began = time.monotonic()
    try:
        asked = observe_request(host, rendered, deadline_s=deadline_s, tokens=tokens)
        reply = transport.ask("observe", asked, deadline_s=deadline_s + TRAVEL_S)
        return HostState.model_validate(reply)
    except HostError as exc:
        return _unreachable(exc.problems[0], began)
    except ValidationError as exc:
        return _unreachable(_invalid(host, exc), began)
    except RecursionError:
        return _unreachable(Problem("REC5005", "the host's reply is not valid", f"{host.name}: nested too deep"), began)
    finally:
        transport.close()


def observe_fleet(
    fleet: Fleet,
    hosts: Iterable[str],
    connect: Connect,
    *,
    rendered: Mapping[str, RenderedHost],
    deadline_s: float = DEADLINE_S,
    tokens: Sequence[str] = (),
    on_done: Callable[[str, Observation], None] | None = None,
) -> dict[str, Observation]:
    """Ask hosts in parallel and return what each said, in the order asked.

    Args:
        fleet: where hosts are and what they share.
        hosts: names of the hosts to ask.
        connect: how to reach one; a key that cannot be used is refused here, before anything is opened.
        rendered: what belongs on each host; one that is not there is asked what it is asked without.
        deadline_s: what the probes on a host may take together; connecting comes on top.
        tokens: of locks that the asker holds.
        on_done: called in the caller's thread with every host as it answers.
    """
    names = list(dict.fromkeys(hosts))
    transports = {name: connect(fleet.hosts[name]) for name in names}
    if not names:
        return {}
    pool = ThreadPoolExecutor(max_workers=min(MAX_PARALLEL, len(names)), thread_name_prefix="observe")
    try:
        running: dict[Future[Observation], str] = {
            pool.submit(
                observe_host,
                fleet.hosts[name],
                transport,
                rendered.get(name),
                deadline_s=deadline_s,
                tokens=tokens,
            ): name
            for name, transport in transports.items()
        }
        found: dict[str, Observation] = {}
        for future in as_completed(running):
            name = running[future]
            found[name] = future.result()
            if on_done:
                on_done(name, found[name])
        return {name: found[name] for name in names}
    except BaseException:
        # Interrupted: closing the connections ends the waiting threads, or the program would stay for their deadlines.
        for transport in transports.values():
            transport.close()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _unreachable(problem: Problem, began: float) -> Unreachable:
    reason = "; ".join(part for part in (problem.summary, problem.detail, problem.fix) if part)
    return Unreachable(code=problem.code, reason=reason, elapsed_s=round(time.monotonic() - began, 3))


def _invalid(host: Host, exc: ValidationError) -> Problem:
    first = exc.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])[:200]
    detail = f"{host.name} sent {exc.error_count()} fields recon does not understand, first {field!a}: {first['msg']}"
    if first["loc"] == ("protocol",) and first["type"] != "missing":
        return Problem("REC5007", "the host's agent speaks another protocol version", detail, "recon apply")
    return Problem("REC5005", "the host's reply is not valid", detail, "recon apply updates the agent of the host")

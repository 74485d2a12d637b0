"""How the spiral of a host is: which rate caps hold, how far they are down, what is not as it should be.

Must not: call a loop fine whose state is unknown.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from reconciler.model.desired import Host
from reconciler.model.live import UP
from reconciler.model.observed import HostState, Known, Unknown
from reconciler.model.observed_loop import LoopState
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint


def loop_lines(host: Host, state: HostState, paint: Paint, *, details: bool) -> Iterator[str]:
    """Yield what a person should know of the spiral's tick; the caps also when all is well and somebody asks."""
    name = paint(host.name, "bold")
    if isinstance(state.loop, Unknown):
        yield f"{name}: {paint('spiral unknown', 'yellow')}: {one_line(state.loop.unknown)}"
    if not isinstance(state.loop, Known):
        return
    seen = state.loop.value
    caps = ", ".join(f"{one_line(key)} {value}" for key, value in sorted(seen.caps.items()))
    if seen.factor < 1:
        since = datetime.datetime.fromtimestamp(seen.since, tz=datetime.UTC).strftime("%Y-%m-%d %H:%MZ")
        yield f"{name}: {paint('spiral backs off', 'yellow')} to {seen.factor:g} of its rate caps since {since}: {caps}"
    elif details:
        yield f"{name}: spiral at its declared rate caps: {caps}"
    yield from (f"{name}: {paint('spiral', 'yellow')} {line}" for line in _stopped(state, seen))
    if seen.converged:
        stopped = f"; stopped: {one_line(', '.join(seen.stopped))}" if seen.stopped else ""
        yield f"{name}: spiral has converged: its producers are stopped{stopped}"
    for problem in seen.problems:
        yield f"{name}: {paint('spiral', 'red')} {one_line(problem)}"
    for guardrail, why in sorted(seen.broken.items()):
        yield f"{name}: {paint('guardrail broken', 'red')} {one_line(guardrail)}: {one_line(why)}"
    for line in _drift(seen):
        yield f"{name}: {paint('drift', 'yellow')} {line}; the spiral's timer writes it again"


def _stopped(state: HostState, seen: LoopState) -> Iterator[str]:
    """Yield which of its loops do not run, and nobody stopped because the loop has converged."""
    units = state.units.value if isinstance(state.units, Known) else ()
    loops = [unit for unit in units if unit.name.startswith("recon-spiral-") and unit.name.endswith(".service")]
    down = [unit.name for unit in loops if unit.active not in UP and unit.name not in seen.stopped]
    if down:
        names = ", ".join(one_line(name.removeprefix("recon-spiral-").removesuffix(".service")) for name in down)
        yield f"{len(loops) - len(down)} of {len(loops)} loops run; stopped: {names}"


def _drift(seen: LoopState) -> Iterator[str]:
    if seen.control_unknown is not None:
        yield f"the control file is not known: {one_line(seen.control_unknown)}"
    for cap, value in sorted((seen.control or {}).items()):
        wanted = seen.caps.get(cap)
        if wanted is not None and (value != wanted or isinstance(value, bool)):
            yield f"{one_line(cap)} is {one_line(str(value))} in the control file, {wanted} holds"

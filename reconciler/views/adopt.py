"""What was adopted: the file, what it leaves out, and how the take-over goes.

Must not: promise what recon does not do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.model.base import format_size
from reconciler.model.strangers import Stranger
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint


def stranger_lines(strangers: Iterable[Stranger], paint: Paint) -> Iterator[str]:
    """Yield a line per unit or container that was looked at."""
    for stranger in strangers:
        held = format_size(stranger.bytes) if stranger.bytes else "memory not known"
        unit = f", {one_line(stranger.unit)}" if stranger.unit and stranger.unit != stranger.name else ""
        boot = ", starts with the host" if stranger.enabled else ""
        yield f"{paint(one_line(stranger.name), 'bold')}: {stranger.kind}{unit}, {held}{boot}"


def left_out_lines(left_out: Iterable[tuple[str, str]], paint: Paint) -> Iterator[str]:
    """Yield what could not be carried over."""
    for service, words in left_out:
        yield f"  {paint('left out', 'yellow')} {one_line(service)}: {one_line(words)}"


def way_lines(host: str, coven: str, strangers: Iterable[Stranger]) -> Iterator[str]:
    """Yield the take-over in order, and how what ran before is got back later, which recon does not do."""
    yield "How the take-over goes:"
    yield "  1. read the file and correct it, then: recon validate"
    yield f"  2. write coven: {coven} into desired/hosts/{host}.yaml, then: recon render, and commit"
    yield f"  3. recon plan --host {host}: it says what is waited for, stopped, and kept off by adopts:"
    yield f"  4. at a time that suits its clients: recon apply --host {host}"
    yield "  If the coven does not come up, what ran before is brought back as it was. After that it stays off."
    yield "  Back to it later, by hand on the host, once git declares no coven there and that is applied:"
    for stranger in strangers:
        yield f"     {_start(stranger)}"


def _start(stranger: Stranger) -> str:
    unit = one_line(stranger.unit or "")
    if not unit:
        name = one_line(stranger.name)
        policy = f"podman update --restart={one_line(stranger.restart)} {name} && " if stranger.restart else ""
        return f"{policy}podman start {name}"
    if stranger.kind == "quadlet":
        return f"systemctl unmask {unit} && systemctl start {unit}"
    return f"systemctl {'enable --now' if stranger.enabled else 'start'} {unit}"

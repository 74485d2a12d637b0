"""What hosts say was done last: outcomes read back, and said in one line.

Pure: the host keeps the record, and its observation brings it here.

Must not: ask a host, or take an outcome that cannot be read for none.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import ValidationError

from reconciler.model.base import format_duration
from reconciler.model.desired import Source
from reconciler.model.observed import HostState, NotApplicable, Unknown
from reconciler.model.outcome import Outcome


def last_outcome(state: HostState) -> Outcome | Unknown | None:
    """Return how the last transaction on a host ended; None when there never was one."""
    last = state.executor.last
    if isinstance(last, NotApplicable):
        return None
    if isinstance(last, Unknown):
        return last
    try:
        return Outcome.model_validate(last.value)
    except ValidationError as exc:
        return Unknown(unknown=f"the outcome record has {exc.error_count()} fields recon does not understand")


def line(outcome: Outcome) -> str:
    """Return an outcome as a line for people, in UTC; texts are as the host wrote them, not yet escaped."""
    when = f"{datetime.fromtimestamp(outcome.started_at, UTC):%Y-%m-%d %H:%M:%S}Z"
    runs = ", ".join(f"{slot}={coven or 'nothing'}" for slot, coven in sorted(outcome.live.items())) or "nothing"
    generation = "no generation" if outcome.committed is None else f"generation {outcome.committed}"
    return (
        f"{when} {outcome.host} {outcome.state.replace('_', ' ')} in {format_duration(outcome.elapsed_s)}: "
        f"{generation}, {runs}; by {outcome.owner} from {Source.of_label(outcome.source_commit).short}"
    )

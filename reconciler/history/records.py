"""What hosts say was done last, and how long it took: outcomes read back, one line each, estimates from them.

Pure: the host keeps the record, and its observation brings it here.

Must not: ask a host, or take an outcome that cannot be read for none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from pydantic import ValidationError

from reconciler.model.base import format_duration
from reconciler.model.observed import HostState, NotApplicable, Observation, Unknown
from reconciler.model.outcome import Outcome

CUT_OFF_STEPS = ("stop", "verify_memory", "trial", "start", "warm")
"""The steps in which a slot serves nobody: from the old coven's end to the new one's first answer."""


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


def last_outcomes(observations: Mapping[str, Observation]) -> dict[str, Outcome]:
    """Return the last outcome of every host that has one and could tell."""
    found = {name: last_outcome(seen) for name, seen in observations.items() if isinstance(seen, HostState)}
    return {name: outcome for name, outcome in found.items() if isinstance(outcome, Outcome)}


def record(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as one flat record: who did what from which commit, when, and how it ended."""
    return {
        "at": datetime.fromtimestamp(outcome.started_at, UTC).isoformat(timespec="seconds"),
        "host": outcome.host,
        "txid": outcome.txid,
        "state": outcome.state,
        "code": outcome.code,
        "owner": outcome.owner,
        "source_commit": outcome.source_commit,
        "committed": outcome.committed,
        "live": dict(sorted(outcome.live.items())),
        "elapsed_s": outcome.elapsed_s,
    }


def line(outcome: Outcome) -> str:
    """Return an outcome as a line for people, in UTC; texts are as the host wrote them, not yet escaped."""
    when = f"{datetime.fromtimestamp(outcome.started_at, UTC):%Y-%m-%d %H:%M:%S}Z"
    runs = ", ".join(f"{slot}={coven or 'nothing'}" for slot, coven in sorted(outcome.live.items())) or "nothing"
    generation = "no generation" if outcome.committed is None else f"generation {outcome.committed}"
    return (
        f"{when} {outcome.host} {outcome.state.replace('_', ' ')} in {format_duration(outcome.elapsed_s)}: "
        f"{generation}, {runs}; by {outcome.owner} from {outcome.source_commit}"
    )


@dataclass(frozen=True, slots=True)
class Timings:
    """How long slots were cut off when covens came up, by host and coven."""

    seconds: Mapping[tuple[str, str], float]

    def estimate(self, host: str, coven: str | None) -> float | None:
        """Return how long a move to a coven will cut its slot off; the host's own figure, else that of its peers."""
        if coven is None:
            return None
        if (host, coven) in self.seconds:
            return self.seconds[host, coven]
        peers = [seconds for (_, name), seconds in self.seconds.items() if name == coven]
        return round(median(peers), 1) if peers else None


def timings(outcomes: Iterable[Outcome]) -> Timings:
    """Learn from what was recorded: only what was applied, moved something, and cannot be about two covens at once."""
    learned: dict[tuple[str, str], float] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.started_at):
        covens = {coven for coven in outcome.live.values() if coven}
        took = [outcome.steps_s[step] for step in CUT_OFF_STEPS if step in outcome.steps_s]
        if outcome.state == "applied" and len(covens) == 1 and "start" in outcome.steps_s:
            learned[outcome.host, covens.pop()] = round(sum(took), 1)
    return Timings(seconds=learned)


def learn(observations: Mapping[str, Observation]) -> Timings:
    """Return the timings that the last transactions of these hosts left."""
    return timings(last_outcomes(observations).values())

"""Makes docs/reference/faults.md from the matrix and the record of the last full run.

    .venv/bin/python -m tests.lab.faults.page

Must not: print a figure that no run has written down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.matrix import CELLS, FAULTS, OUTCOMES, STEPS
from tests.lab.faults.plays import OURS, sample

PAGE = Path("docs/reference/faults.md")
RECORD = Path("docs/reference/faults.json")

_INTRO = """\
# Faults

What recon does when something breaks in the middle of a transition: every step meets every fault that can strike there.
This page is made by `python -m tests.lab.faults.page` from the matrix that the tests play and the record of the last
full run on real hosts.

A cell names the outcomes that are right; **bold** means that it was played on real hosts in that run and ended so.
"""


def page(record: dict[str, Any]) -> str:
    """Return the whole page."""
    return "\n".join([_INTRO, *_legend(), *_table(record), *_ours(), *_counts(record)]).rstrip() + "\n"


def _legend() -> Iterator[str]:
    yield "| letter | outcome |"
    yield "|---|---|"
    for outcome, text in OUTCOMES.items():
        yield f"| {outcome} | {text} |"
    yield ""
    yield "| fault | what strikes |"
    yield "|---|---|"
    for fault, text in FAULTS.items():
        yield f"| {fault} | {text} |"
    yield ""


def _table(record: dict[str, Any]) -> Iterator[str]:
    results = record.get("cells", {}).get("results", {})
    yield "| step | " + " | ".join(FAULTS) + " |"
    yield "|---" * (len(FAULTS) + 1) + "|"
    for step, text in STEPS.items():
        yield f"| {step} {text} | " + " | ".join(_shown(f"{step}-{fault}", results) for fault in FAULTS) + " |"
    yield ""


def _shown(name: str, results: dict[str, str]) -> str:
    if name not in CELLS:
        return "–"
    letters = OURS.get(name) or "".join(CELLS[name].outcomes)
    return f"**{letters}**" if results.get(name) == "passed" else letters


def _ours() -> Iterator[str]:
    yield "Lease and stage belong to the executor on the host, which needs no controller: one that goes away there"
    yield "changes nothing. The order is launched before the host is looked at again, so a coven that crashes by then"
    yield "is seen by the claim (T6, C5). The commit is one symlink and the reload comes after it: it is never undone"
    yield "(T13, C14). What boots are units and a symlink, and no figure of the driver is needed for it (RV, C12)."
    yield "No hook is called after the commit; the last one before it hangs, and the plan says to go on (T14, C7)."
    yield ""


def _counts(record: dict[str, Any]) -> Iterator[str]:
    yield "## The last full run"
    yield ""
    cells = record.get("cells")
    yield f"Cells that can occur: {len(CELLS)}, all of them written for real hosts; `make test` plays {len(sample())}"
    yield "of them every time, `make faults` all."
    if cells:
        results = cells["results"]
        passed = sum(result == "passed" for result in results.values())
        yield f"Played on {cells['date']}: {len(results)} cells, {passed} ended as they must."
        wrong = sorted(name for name, result in results.items() if result != "passed")
        if wrong:
            yield f"Not as they must: {', '.join(wrong)}."
    kills = record.get("kills")
    if kills:
        ends = ", ".join(f"{name} {count}" for name, count in kills["ends"].items())
        yield (
            f"Random instants on {kills['date']}, seed {kills['seed']}: {kills['kills']} strikes and "
            f"{kills['rollbacks']} rollbacks, {kills['illegal']} illegal states ({ends})."
        )
    simulated = record.get("simulation")
    if simulated:
        yield (
            f"Simulated histories on {simulated['date']}: {simulated['seeds']} seeds from {simulated['first']}, "
            f"{simulated['violations']} violations."
        )


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()

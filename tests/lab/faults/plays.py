"""Every cell that is played on real hosts, wherever its play is written.

Must not: play one.
"""

from __future__ import annotations

from tests.lab.faults import away, before, boots, hung, within
from tests.lab.faults.cells import OURS, PLAYS, right, sample, target

__all__ = ["OURS", "PLAYS", "right", "sample", "target"]

for written in (away, before, within, hung, boots):
    PLAYS.update(written.PLAYS)
OURS.update(within.OURS)
OURS.update(boots.OURS)

"""What a host says about its spiral when somebody asks: its guardrails, judged against what is about to be declared.

Must not: be asked where nobody declares one; it looks at every process.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from . import fact, guardrails, share
from .machine import Machine


def spiral(machine: Machine, spec: Optional[Dict[str, Any]]) -> fact.Fact:
    """Return `model.observed.SpiralState`; units that nobody's drop-in touched are judged by what is declared."""
    if not spec:
        return fact.not_applicable("not asked")
    verdicts = guardrails.judge(machine, {**spec, "planned": True})
    found = share.state(machine, spec)
    return fact.value({"guardrails": guardrails.told(verdicts), **({"share": found} if found else {})})

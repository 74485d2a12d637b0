"""What the spiral's tick did last, and the owned keys as they are now: `model.observed_loop.LoopState`.

Must not: show any key of the control file that is not recon's.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Optional

from . import caps, fact, places
from .machine import Machine
from .plain import clean
from .record import RecordError, number_in, read_record


def loop(machine: Machine, generation: fact.Fact) -> Optional[fact.Fact]:
    """Return the fact, None on a host without a committed spiral that is enabled."""
    committed = generation.get("value")
    body = committed["manifest"].get("value") if committed else None
    spec = (body or {}).get("spiral")
    if not spec or not spec["enabled"]:
        return None
    try:
        return fact.value(_state(machine, spec, read_record(machine, places.LOOP)))
    except FileNotFoundError:
        return fact.unknown("the spiral's timer has not run yet")
    except (OSError, RecordError, KeyError, TypeError, ValueError) as error:
        return fact.unknown(f"{places.LOOP}: {fact.why(error)}")


def _state(machine: Machine, spec: Dict[str, Any], body: Dict[str, Any]) -> Dict[str, Any]:
    seen = body["seen"]
    control = caps.read(machine, spec) or {}
    owned = control.get("value")
    return {
        "factor": number_in(body, "factor"),
        "since": number_in(body, "since"),
        "caps": seen["caps"],
        "control": None if owned is None else {name: _plain(value) for name, value in owned.items()},
        "control_unknown": control.get("unknown"),
        "converged": body["converged"],
        "stopped": list(body["stopped"]),
        "broken": {clean(name): clean(text) for name, text in body["broken"].items()},
        "problems": [clean(text) for text in seen["problems"]],
        "gpu": seen["gpu"],
        "memory": seen["memory"],
        "at": number_in(seen, "wall"),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        # The file is somebody else's, and no reply can hold these as numbers.
        value = str(value)
    return clean(value, 80) if isinstance(value, str) else value if isinstance(value, (int, float)) else None

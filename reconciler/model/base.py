"""The frozen base of every value, and the quantities that carry their unit.

Must not: read files, know a clock, depend on any other floor than errors.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,30}$"
TXID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z"
"""What hosts take for the name of a transaction."""
RESERVED_NAMES = frozenset({"gate", "coven", "resident", "executor", "boot", "trial", "spiral", "job", "share"})

# Digits are bounded: hundreds of them overflow a float, with an error of Python's own.
_SIZE = re.compile(r"^([0-9]{1,12}(?:\.[0-9]{1,6})?)(B|KiB|MiB|GiB|TiB)\Z")
_SIZE_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DURATION = re.compile(r"^(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?!s))?(?:([0-9]{1,9})s)?(?:([0-9]{1,9})ms)?\Z")
MAX_DURATION_S = 7 * 24 * 3600
END_OF_TIME_S = 253402300799
"""The last second of the year 9999: calendars of most programs, and Python's, end there."""


class Frozen(BaseModel):
    """A value: it never changes after it was made, and no unknown key gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Wire(BaseModel):
    """A value that comes from JSON: lists become tuples, so not strict about those."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def parse_size(value: Any) -> int:
    """Turn `14GiB` into bytes; a bare number is refused, for nobody knows its unit."""
    match = _SIZE.match(value) if isinstance(value, str) else None
    if not match:
        raise PydanticCustomError(
            "size", "'{value}' is not a size; write a number with B, KiB, MiB, GiB or TiB", {"value": str(value)}
        )
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def parse_duration(value: Any) -> float:
    """Turn `1h30m`, `45s` or `250ms` into seconds; more than zero, at most 7 days."""
    match = _DURATION.match(value) if isinstance(value, str) and value else None
    if not match:
        raise PydanticCustomError(
            "duration", "'{value}' is not a duration; write for example 90s, 5m or 1h30m", {"value": str(value)}
        )
    hours, minutes, seconds, millis = (int(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds + millis / 1000
    if not 0 < total <= MAX_DURATION_S:
        raise PydanticCustomError(
            "duration_range", "'{value}' is out of range: more than 0, at most 168h", {"value": value}
        )
    return total


def format_size(value: int) -> str:
    """Say bytes as a person would: `96GiB`, `512MiB`, `1.5GiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        size = _SIZE_UNITS[unit]
        if abs(value) >= size:
            return f"{value / size:.1f}".removesuffix(".0") + unit
    return f"{value}B"


def format_duration(seconds: float) -> str:
    """Say seconds as a person would: `5m`, `1h30m`, `40s`, `0.3s`."""
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "") + (f"{left}s" if left else "")
    return text or "0s"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 host`, `2 hosts`, `2 processes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(B|KiB|MiB|GiB|TiB)$", "examples": ["14GiB", "512MiB"]}),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$", "examples": ["5m", "90s", "1h30m"]}
    ),
]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

"""Reads what Prometheus would: one sample a line, `name{label="value"} number`, of metrics that somebody asks for.

Must not: know a metric by name, or take what is no usable number for one.
"""

from __future__ import annotations

import math
from typing import Collection, Dict, Iterator, NamedTuple, Optional


class Sample(NamedTuple):
    """One sample; `value` is None when it is no usable number, `labels` hold what could be read of them."""

    name: str
    labels: Dict[str, str]
    value: Optional[float]


def samples(text: str, names: Collection[str]) -> Iterator[Sample]:
    """Yield the samples of some metrics, in order."""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        brace, space = line.find("{"), line.find(" ")
        labelled = brace >= 0 and (space < 0 or brace < space)
        name = line[: brace if labelled else space if space >= 0 else len(line)]
        if name in names:
            end = _end_of_labels(line, brace) if labelled else len(name)
            yield Sample(name, _labels(line[brace + 1 : end - 1]) if labelled else {}, _value(line[end:]))


def _value(rest: str) -> Optional[float]:
    """Return the number before a timestamp; NaN, infinity and negative gauges are what servers print in ignorance."""
    fields = rest.split()
    try:
        value = float(fields[0]) if fields else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _end_of_labels(line: str, start: int) -> int:
    quoted = escaped = False
    for index in range(start, len(line)):
        char = line[index]
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = quoted
        elif char == '"':
            quoted = not quoted
        elif char == "}" and not quoted:
            return index + 1
    return len(line)


def _labels(text: str) -> Dict[str, str]:
    """Return `a="1",b="2"` as a dictionary; values keep their escapes, for nobody here asks for one that has any."""
    found: Dict[str, str] = {}
    name, quoted, escaped, start = "", False, False, 0
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            if quoted:
                found[name] = text[start + 1 : index]
            quoted, start = not quoted, index
        elif not quoted and char == "=":
            name = text[start:index].strip(' ,"')
    return found

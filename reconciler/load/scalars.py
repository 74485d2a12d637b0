"""Says what a plain scalar of YAML is: the core schema of YAML 1.2, without its traps.

`true`, `false`, `null`, integers and floats are what they are everywhere; anything that another YAML reader, or a
person, would take for something else is refused with the way to say it clearly.

Must not: know positions, files or the schema.
"""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

CONSTANTS: dict[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
YAML11_BOOLEANS = {"yes": True, "no": False, "on": True, "off": False, "y": True, "n": False}
NUMBER_START = frozenset("0123456789+-.")

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_AMBIGUOUS = re.compile(
    r"[-+]?(?:0[0-9]+(?:\.[0-9]*)?|0[xX][0-9a-fA-F_]+|0[oObB][0-7_]+|[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?)"
)
_DATE_OR_TIME = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}.*)?"
    r"|[-+]?[0-9]{1,9}(?::[0-5]?[0-9])+(?:\.[0-9]*)?"
)
_MAX_INTEGER = 2**63 - 1


class ScalarError(ValueError):
    """A plain scalar that is not taken as it stands."""

    def __init__(self, code: str, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.fix = fix


def resolve(text: str) -> Scalar:
    """Return the value of a plain scalar.

    Raises:
        ScalarError: a giant or infinite number, a date or time, a number that readers disagree about.
    """
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] not in NUMBER_START:
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    return _refuse_lookalikes(text)


def _integer(text: str) -> int:
    # The length is looked at first: Python refuses to convert thousands of digits with an error of its own.
    if len(text) > 20 or abs(value := int(text)) > _MAX_INTEGER:
        raise ScalarError("REC1016", "the number does not fit 64 bits", "write a smaller number, or quote it as text")
    return value


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ScalarError("REC1017", "the number is too large to be represented", "write a finite number")
    return value


def _refuse_lookalikes(text: str) -> str:
    if _NOT_FINITE.fullmatch(text):
        raise ScalarError("REC1017", "infinity and not-a-number limit nothing", "write a finite number")
    if _DATE_OR_TIME.fullmatch(text):
        raise ScalarError(
            "REC1018", "unquoted, some YAML readers make a date or a number of it", f'quote it: "{text[:40]}"'
        )
    if _AMBIGUOUS.fullmatch(text):
        raise ScalarError(
            "REC1020",
            "YAML readers disagree about leading zeros, underscores and other bases",
            f'write it in plain decimal, or quote it as text: "{text[:40]}"',
        )
    return text

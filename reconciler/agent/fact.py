"""The three answers a probe can give: a value, unknown with the reason, not applicable with the reason.

Must not: turn one into another. Unknown is never zero, empty or fine.
"""

from typing import Any, Callable, Dict

from .plain import clean

Fact = Dict[str, Any]


def value(found: Any) -> Fact:
    """Return a fact that was read."""
    return {"value": found}


def unknown(reason: str) -> Fact:
    """Return a fact that should exist and could not be read."""
    return {"unknown": clean(reason)}


def not_applicable(reason: str) -> Fact:
    """Return a fact that this kind of host does not have."""
    return {"na": clean(reason)}


def attempt(probe: Callable[[], Any]) -> Fact:
    """Return what a probe finds; what the system refuses is unknown, with the system's words."""
    try:
        return value(probe())
    except (OSError, ValueError) as error:
        return unknown(why(error))


def why(error: BaseException) -> str:
    """Say an error in one line, with the path when it has one."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__

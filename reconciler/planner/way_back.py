"""The words of a plan that goes back to a generation: it is that generation, not git, that wants things otherwise.

Pure. Must not: change what is done, only how it is said.
"""

from __future__ import annotations

from reconciler.model.change import Change


def said_of(changes: tuple[Change, ...], generation: int) -> tuple[Change, ...]:
    """Return the changes with their reasons in the words of a way back; what the host did by itself keeps its own."""
    return tuple(change.model_copy(update={"reason": _reason(change, generation)}) for change in changes)


def _reason(change: Change, generation: int) -> str:
    if change.cause == "drift":
        return change.reason
    match change.word:
        case "coven_switch":
            now, then = change.before or "nothing", change.after or "nothing"
            return f"slot {change.slot} runs {now}, generation {generation} had {then}"
        case "config_changed" | "settings_changed":
            return f"{change.name} was otherwise in generation {generation}"
        case "file_new" | "member_new":
            return f"{change.name} was part of generation {generation}"
        case "file_extra" | "member_gone" | "unit_gone":
            return f"{change.name} was no part of generation {generation}"
        case _:
            return change.reason

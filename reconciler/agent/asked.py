"""What a person or program says along with a deed on a host: who they are, and why.

Must not: mend what was said; what is empty, too long or would make a terminal lie is refused.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

from .plain import clean
from .wire import RequestError

OWNER_LIMIT = 200
REASON_LIMIT = 500


def who_and_why(args: Dict[str, Any]) -> Tuple[str, str]:
    """Return owner and reason; REC7304 names the one that is not fit to be kept."""
    return _text(args, "owner", OWNER_LIMIT), _text(args, "reason", REASON_LIMIT)


def host_in(args: Dict[str, Any]) -> str:
    """Return the host's name in git, for the commands that people are told to type."""
    return clean(str(args.get("host", "HOST")), 80)


def _text(args: Dict[str, Any], key: str, limit: int) -> str:
    said = args.get(key)
    if not isinstance(said, str) or not said.strip():
        raise _bad(key, "it is empty")
    if len(said) > limit:
        raise _bad(key, f"it has {len(said)} characters, at most {limit} are kept")
    # A space is the one white space that stays what it is.
    if any(clean(word, limit + 1) != word for word in said.split(" ") if word):
        raise _bad(key, "it has control characters")
    return " ".join(said.split(" ")).strip()


def _bad(key: str, why: str) -> RequestError:
    return RequestError("REC7304", f"the {key} is not fit to be kept", why, f"say it with --{key}, in one line")

"""The warm-up of a server: one real, tiny piece of work by the model that is expected.

Must not: retry or wait; whoever asks decides how often.
"""

from __future__ import annotations

import json
from typing import Any, Dict, NamedTuple, Optional

from .machine import Machine, Response
from .plain import clean

_LIST_TIMEOUT_S = 5.0
_NOT_OFFERED = (404, 405)
# A key it was not given, a request this server has no place for: none of it passes by itself.
_FOR_GOOD = (401, 403, 404, 405, 501)
_WITHOUT = "asking again cannot help, `warm: {request: false}` does without"


class Warmth(NamedTuple):
    """How a warm-up went; `final` means that asking again cannot help, else `status` is the bad answer."""

    ok: bool
    reason: str
    final: bool = False
    status: int = 0


def warm_up(machine: Machine, warm: Dict[str, Any]) -> Warmth:
    """Do a member's warm-up once."""
    model = ""
    if warm["model_url"]:
        listed = machine.http("GET", warm["model_url"], _LIST_TIMEOUT_S)
        if not _good(listed):
            return _hinted(_failed("the list of models " + said(listed), listed))
        if listed.cut:
            return Warmth(False, "the list of models " + no_whole(listed))
        found = first_model(listed.body)
        if found is None:
            return Warmth(False, "the list of models names no model")
        model = found
        expected = warm["expect_model"]
        if expected is not None and model != expected:
            text = f"it serves the model {clean(model, 120)}, not {clean(expected, 120)}"
            return Warmth(False, text, final=True)
    return _hinted(_call(machine, warm["call"], model, warm["timeout_s"]))


def offered(machine: Machine, call: Dict[str, Any], timeout_s: float) -> Warmth:
    """Make a call such as pause or resume; one that is optional and not offered is no failure."""
    return _call(machine, call, "", timeout_s)


def first_model(body: bytes) -> Optional[str]:
    """Return the id that a model list names first, or None when the reply is not such a list."""
    try:
        ident = json.loads(body.decode("utf-8"))["data"][0]["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return ident if isinstance(ident, str) and ident else None


def said(answer: Response) -> str:
    """Say what an HTTP answer was, for people."""
    text = clean(answer.body, 160)
    if answer.status == 0:
        return f"did not answer: {text}"
    return f"answered {answer.status}" + (f": {text}" if text else "")


def no_whole(answer: Response) -> str:
    """Say why an answer must not be read as what it was asked for; empty when it is good, and all of it is there."""
    if not _good(answer):
        return said(answer)
    return f"answered {answer.status} with more than is read of an answer" if answer.cut else ""


def _call(machine: Machine, call: Dict[str, Any], model: str, timeout_s: float) -> Warmth:
    body = None
    if call["body"] is not None:
        # The placeholder stands inside a JSON string, so the id goes in as JSON would write it, without the quotes.
        body = call["body"].replace("{model}", json.dumps(model)[1:-1]).encode("utf-8")
    answer = machine.http(call["method"], call["url"], timeout_s, body)
    if _good(answer):
        return Warmth(True, "")
    if call["optional"] and answer.status in _NOT_OFFERED:
        return Warmth(True, "not offered")
    return _failed(f"{call['method']} {clean(call['url'], 160)} {said(answer)}", answer)


def _failed(text: str, answer: Response) -> Warmth:
    final = answer.status in _FOR_GOOD
    return Warmth(False, text, final=final, status=0 if final else answer.status)


def _hinted(warmth: Warmth) -> Warmth:
    return warmth._replace(reason=f"{warmth.reason}; {_WITHOUT}") if warmth.final else warmth


def _good(answer: Response) -> bool:
    return 200 <= answer.status < 300

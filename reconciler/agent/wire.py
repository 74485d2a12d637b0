"""The frames as the agent's own command line writes them, and what a request must look like.

Over SSH the loader that came with the request does the framing (it must work before any of this is there). This module
is for the installed agent, run by hand or by systemd, and checks what the loader hands on.

Must not: know what a verb does.
"""

import json
from typing import Any, Dict, Mapping

PROTOCOL = 1
VERBS = (
    "observe",
    "apply",
    "follow",
    "execute",
    "recover",
    "release",
    "generation",
    "watch",
    "clear",
    "schedule",
    "registry",
    "lock",
    "hold",
    "down",
    "up",
    "reap",
    "tend",
    "run",
    "job",
    "logs",
    "deliver",
    "events_test",
    "history",
    "survey",
    "enroll",
    "strangers",
)


class RequestError(Exception):
    """A request that is none; the four texts go to the controller as they are."""

    def __init__(self, code: str, summary: str, detail: str = "", fix: str = "") -> None:
        super().__init__(f"{summary}: {detail}" if detail else summary)
        self.code = code
        self.summary = summary
        self.detail = detail
        self.fix = fix


def frame(document: Mapping[str, Any]) -> bytes:
    """Return a document as one frame; a line feed first, for a login may have printed half a line."""
    body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return b"\nRECON1 %d\n%b" % (len(body), body)


def reply(answer: Mapping[str, Any]) -> bytes:
    """Return the frame of an answer."""
    return frame({"ok": True, "reply": answer})


def refusal(error: Exception) -> bytes:
    """Return the frame of an error; one of ours carries its own code."""
    code = getattr(error, "code", None)
    if isinstance(code, str):
        texts = {key: str(getattr(error, key, "")) for key in ("code", "summary", "detail", "fix")}
    else:
        detail = f"{type(error).__name__}: {error}"
        texts = {"code": "REC5014", "summary": "the agent failed on the host", "detail": detail, "fix": "report it"}
    return frame({"ok": False, **texts})


def check(verb: Any, args: Any) -> Dict[str, Any]:
    """Return the arguments of a request, or raise what is wrong with it."""
    if verb not in VERBS:
        shown = ascii(str(verb)[:40])
        raise RequestError("REC5016", "the agent does not know this request", f"verb {shown}", "update recon")
    if not isinstance(args, dict):
        raise RequestError(
            "REC5016", "the agent does not know this request", f"{verb} without arguments", "update recon"
        )
    if verb in ("follow", "execute", "recover") and not isinstance(args.get("txid"), str):
        raise RequestError("REC5016", "the agent does not know this request", f"{verb} without txid", "update recon")
    number = args.get("number")
    if verb == "generation" and not (number is None or (type(number) is int and number > 0)):
        raise RequestError(
            "REC5016",
            "the agent does not know this request",
            "generation by something else than a number",
            "update recon",
        )
    return args

"""Simulated hosts behind the same seam: the production agent over a machine that is made up.

Replies go through the same parser as those of real hosts, so a reply that could not travel fails here too.

Must not: know how a machine is simulated.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from reconciler.errors import HostError, Problem, UnreachableError
from reconciler.hosts.wire import parse_reply


class Simulation(Protocol):
    """What `reconciler.sim` offers: the agent of one host, called directly."""

    def handle(self, host: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        ...


class SimulatedTransport:
    """A simulated host; there is no connection, and no time passes."""

    def __init__(self, simulation: Simulation, host: str) -> None:
        self._simulation = simulation
        self._host = host

    def ask(self, verb: str, args: dict[str, Any], *, deadline_s: float) -> dict[str, Any]:  # noqa: ARG002 - no waits
        """Hand the request to the simulation as if it had travelled."""
        try:
            reply = self._simulation.handle(self._host, verb, json.loads(json.dumps(args)))
        except (HostError, OSError) as exc:
            raise self._unreachable(exc) from exc
        except Exception as exc:
            if isinstance(getattr(exc, "code", None), str):
                words = {key: str(getattr(exc, key, "")) for key in ("code", "summary", "detail", "fix")}
                return parse_reply(json.dumps({"ok": False, **words}).encode(), self._host)
            raise
        return parse_reply(json.dumps({"ok": True, "reply": reply}).encode(), self._host)

    def close(self) -> None:
        """Nothing is held."""

    def _unreachable(self, exc: Exception) -> HostError:
        if isinstance(exc, HostError):
            return exc
        return UnreachableError(
            Problem(
                "REC6007",
                "the host does not accept the connection",
                f"{self._host} is simulated as down: {exc}",
                f"recon sim do {self._host} up",
            )
        )

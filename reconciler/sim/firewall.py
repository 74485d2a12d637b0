"""nftables of a simulated host, as far as recon uses it: ports that refuse new connections for a time.

Must not: know services; whether a request is refused is asked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reconciler.agent.machine import Completed
from reconciler.sim.clock import Clock
from reconciler.sim.faults import fault_of
from reconciler.sim.podman import UnknownArgvError
from reconciler.sim.state import Closed, SimState

_ELEMENT = re.compile(r"(\d+) timeout (\d+)s")
_WORDS = ("type inet_service", "reject with tcp reset", "type filter hook input")


class Firewall:
    """The one table of ours on one host; `on_open` is told of a port that is open again, and since when it was not."""

    def __init__(self, state: SimState, clock: Clock, on_open: Callable[[int, float], None]) -> None:
        self._state = state
        self._clock = clock
        self._on_open = on_open
        clock.on("firewall.forgets", lambda args: self._forget(int(args["port"]), float(args["until"])))

    def run(self, argv: list[str], stdin: bytes) -> Completed:
        """Answer `nft -f -` and `nft -c -f -`."""
        if argv not in (["nft", "-f", "-"], ["nft", "-c", "-f", "-"]):
            raise UnknownArgvError(str(argv))
        broken = fault_of(self._state, "nft", "*")
        if broken is not None:
            code = int(broken.value) or 127
            return Completed(
                code, b"", (broken.text or "Error: Could not process rule: Operation not supported").encode()
            )
        text = stdin.decode("ascii")
        if "-c" not in argv:
            self._replace(text)
        return Completed(0, b"", b"")

    def _replace(self, text: str) -> None:
        if not text.startswith("table inet recon_admission\ndelete table inet recon_admission\n"):
            raise UnknownArgvError(f"nft: {text}")
        rest = text.split("\n", 2)[2]
        wanted = {int(port): float(seconds) for port, seconds in _ELEMENT.findall(rest)}
        if rest and not (wanted and all(word in rest for word in _WORDS)):
            raise UnknownArgvError(f"nft: {text}")
        for port in [port for port in self._state.closed if port not in wanted]:
            self._open(port)
        for port, seconds in wanted.items():
            until = self._clock.now + seconds
            since = self._state.closed[port].since if port in self._state.closed else self._clock.now
            self._state.closed[port] = Closed(since=since, until=until)
            self._clock.schedule(seconds, "firewall.forgets", port=port, until=until)

    def _forget(self, port: int, until: float) -> None:
        found = self._state.closed.get(port)
        if found is not None and found.until == until:
            self._open(port)

    def _open(self, port: int) -> None:
        since = self._state.closed.pop(port).since
        self._on_open(port, since)

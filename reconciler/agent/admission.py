"""Admission by firewall: while a coven drains, new connections to its ports are refused and established ones go on.

A table of our own in nftables, `inet recon_admission`, replaced as a whole and removed as a whole. What is refused is
the first packet of a connection, told by its flags and not by the kernel's connection tracking: that may begin to look
when the rule comes, and would take requests in flight for new ones. The reset reaches the client at once, so that a
gateway tries another server.

The agent's own polls go on, for they come from an address that nobody else uses (`places.OWN_ADDRESS`); a gateway on
this very host comes from another one and is refused like anybody.

The rule is removed on every way out: after the stop, on an abort and a rollback, by whoever recovers an executor that
was killed. A reboot forgets it, and the kernel itself forgets the ports after the longest time a drain may take.

Must not: touch a table that is not ours, or be left behind.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from . import places
from .machine import Completed, Machine
from .plain import clean, clean_lines
from .record import write_record
from .step_stop import longest_stop
from .txn import HaltError, Run

TABLE = "recon_admission"
_APPLY = ("nft", "-f", "-")
_CHECK = ("nft", "-c", "-f", "-")
_TIMEOUT_S = 30.0
_MARGIN_S = 300.0
_NOT_THERE = 127
# Adding it first makes the removal right whether it is there or not.
_GONE = f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def check(run: Run, members: Sequence[Dict[str, Any]]) -> None:
    """Refuse when a firewall was asked for and the host has none that could do it; changes nothing."""
    ports = ports_of(members)
    if not ports:
        return
    done = run.machine.run(_CHECK, _TIMEOUT_S, stdin=ruleset(ports, _MARGIN_S).encode("ascii"))
    if done.rc == _NOT_THERE:
        raise HaltError(
            "REC7131", "admission: firewall needs nft, which is not on the host", fix="apt-get install nftables"
        )
    if done.rc != 0:
        raise HaltError(
            "REC7131", f"the host's nftables cannot do it: {_why(done)}", fix="nft list tables; uname -r; lsmod"
        )


def close(run: Run, members: Sequence[Dict[str, Any]], longest_s: float) -> None:
    """Refuse new connections to the ports of members that want it, for at most so long as their drain may take."""
    ports = ports_of(members)
    if not ports:
        return
    machine = run.machine
    ends_s = longest_s + longest_stop(members) + _MARGIN_S
    named = ", ".join(str(port) for port in ports)
    with run.step("admission", f"refusing new connections to {named}"):
        # Before the rule: whoever comes after a killed executor must know of it.
        write_record(machine, places.ADMISSION, {"txid": run.txid, "ports": ports})
        done = machine.run(_APPLY, _TIMEOUT_S, stdin=ruleset(ports, ends_s).encode("ascii"))
        if done.rc != 0:
            raise HaltError("REC7131", f"the firewall did not take the rule: {_why(done)}", fix="nft list ruleset")


def reopen(machine: Machine) -> bool:
    """Take the rule away where there is one; say whether there was. HaltError when it stays."""
    if machine.stat(places.ADMISSION) is None:
        return False
    done = machine.run(_APPLY, _TIMEOUT_S, stdin=_GONE.encode("ascii"))
    # Without the program nothing was closed by it either.
    if done.rc not in (0, _NOT_THERE):
        raise HaltError(
            "REC7133",
            f"new connections are still refused, for the rule does not go: {_why(done)}",
            fix=f"nft delete table inet {TABLE}",
        )
    machine.remove(places.ADMISSION)
    return True


def admit(run: Run) -> None:
    """Take the rule away inside a transaction, and say so."""
    if run.machine.stat(places.ADMISSION) is None:
        return
    with run.step("admission", "admitting new connections again", guarded=False):
        reopen(run.machine)


def ports_of(members: Sequence[Dict[str, Any]]) -> List[int]:
    """Return the ports that shall be closed; what a host has on record from before there was a firewall has none."""
    return sorted({int(member["port"]) for member in members if member.get("firewall") and member["port"]})


def ruleset(ports: Sequence[int], ends_s: float) -> str:
    """Return the whole table, to be put in place of an earlier one in one step."""
    elements = ", ".join(f"{int(port)} timeout {int(ends_s)}s" for port in ports)
    return f"""{_GONE}table inet {TABLE} {{
  set ports {{
    type inet_service
    flags timeout
    elements = {{ {elements} }}
  }}
  chain input {{
    type filter hook input priority -10; policy accept;
    ip saddr {places.OWN_ADDRESS} accept
    tcp dport @ports tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset
  }}
}}
"""


def _why(done: Completed) -> str:
    return clean("; ".join(clean_lines(done.err, 3)) or f"exit status {done.rc}")

"""From desired state to a way to every host: SSH or simulated, whose key, through which jump host.

Must not: open a connection; that happens when a transport is first asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from reconciler.errors import Problem, RefusedError, Where
from reconciler.hosts.bundle import agent_bundle
from reconciler.hosts.simulated import SimulatedTransport, Simulation
from reconciler.hosts.ssh_errors import Place
from reconciler.hosts.transport import Transport
from reconciler.model.desired import Fleet, Host

if TYPE_CHECKING:
    from reconciler.hosts.ssh import Target

SIM_DIRECTORY = Path(".recon") / "sim"


class Connector(Protocol):
    """A `Connect` that also lets go of what its transports share."""

    def __call__(self, host: Host) -> Transport: ...

    def close(self) -> None:
        """Close what is shared; transports are closed by who asked for them."""
        ...


def connector(fleet: Fleet, root: Path) -> Connector:
    """Return how hosts of this fleet are reached; `root` is the state repository."""
    if fleet.transport == "sim":
        # Only simulated fleets pay for loading the simulator, only real ones for loading SSH.
        from reconciler.sim import SimFleet

        return SimConnector(SimFleet(root / SIM_DIRECTORY))
    return SshConnector(root)


class SimConnector:
    """Connects to simulated hosts."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def __call__(self, host: Host) -> Transport:
        return SimulatedTransport(self._simulation, host.name)

    def close(self) -> None:
        """Nothing is shared."""


class SshConnector:
    """Connects over SSH; all connections share known hosts, keys, jump hosts and the bound on handshakes."""

    def __init__(self, root: Path) -> None:
        from reconciler.hosts.ssh import SshRun

        self._root = root
        self._run = SshRun(agent_bundle())

    def __call__(self, host: Host) -> Transport:
        return self._run.transport(target_of(host, self._root))

    def close(self) -> None:
        """Close the jump hosts."""
        self._run.close()


def target_of(host: Host, root: Path) -> Target:
    """Return where a host is and how it proves itself.

    Raises:
        RefusedError: REC7023, the private key is missing or others can read it.
    """
    from reconciler.hosts.ssh import Target

    ssh = host.ssh
    key = key_file(ssh.key, root, host.name) if ssh.key else None
    jump = None
    if ssh.jump:
        user, address, port = split_jump(ssh.jump)
        place = Place(f"the jump host of {host.name}", user or ssh.user, address, port)
        jump = Target(place, host_key=None, key=key, is_jump=True)
    place = Place(host.name, ssh.user, host.address, ssh.port)
    return Target(place, host_key=host.host_key, key=key, jump=jump, is_users=host.scope == "user")


def key_file(name: str, root: Path, host: str) -> Path:
    """Return the private key's path, relative ones from the state repository, after a look at who may read it."""
    path = root / Path(name).expanduser()
    where = Where(f"{host}:ssh.key")
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise RefusedError(
            Problem("REC7023", "the private key cannot be read", f"{path}: {exc.strerror}", "correct ssh.key", where)
        ) from exc
    if mode & 0o077:
        raise RefusedError(
            Problem(
                "REC7023",
                "the private key can be read by others",
                f"{path} has mode {mode & 0o777:o}",
                f"chmod 600 {path}",
                where,
            )
        )
    return path


def split_jump(jump: str) -> tuple[str | None, str, int]:
    """Take `[user@]host[:port]` apart; an address with several colons is IPv6 and has no port."""
    user, at, rest = jump.rpartition("@")
    address, colon, port = rest.rpartition(":")
    if not colon or ":" in address or not port.isdecimal():
        return (user if at else None), rest, 22
    return (user if at else None), address, int(port)

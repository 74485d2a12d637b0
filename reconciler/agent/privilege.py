"""Whether the agent has the rights of whom recon's own files belong to: root, or the user whose host it is.

Without them a host can be looked at; what cannot be read is then unknown, and says nothing about the files themselves.

Must not: be asked before a change; the system refuses that by itself.
"""

from .machine import Machine


def effective_uid(machine: Machine) -> int:
    """Return whose rights this very process has; ValueError or OSError when the kernel does not say."""
    for line in machine.read("/proc/self/status").split(b"\n"):
        if line.startswith(b"Uid:"):
            return int(line.split()[2])
    raise ValueError("/proc/self/status names no user")


NOT_OURS = "podman tells this login of its own containers alone, and the host is another's"
"""Why what podman says is not known: to a guest it says of everybody else's containers that there are none."""


def is_guest(machine: Machine) -> bool:
    """Say whether the agent only looks, as somebody to whom recon's files do not belong."""
    try:
        return effective_uid(machine) not in (0, getattr(machine, "own_uid", 0))
    except (OSError, ValueError):
        return False

"""Open gates, as systemd tells them: each has a directory in /run for as long as it is up.

Must not: open or close one.
"""

from __future__ import annotations

import contextlib

from . import files, places, systemd
from .machine import Machine

_PREFIX = "recon-gate-"
_CLOSED = ("inactive", "failed")


def sweep(machine: Machine) -> None:
    """Remove the directories of gates that are not up; a gate does not open while another one has its own.

    systemd takes the directory away with the gate, unless the unit file went first and was reloaded: then it does not
    know of it any more. What cannot be removed is told by the start that it makes fail.
    """
    names = [name for name in files.names_in(machine, places.GATES) if name.startswith(_PREFIX)]
    if not names:
        return
    shown = systemd.show_units(machine, [f"{name}.service" for name in names])
    for name in names:
        state = shown.get(f"{name}.service")
        if state is not None and state.active in _CLOSED and not state.job:
            with contextlib.suppress(OSError):
                machine.remove_tree(f"{places.GATES}/{name}")

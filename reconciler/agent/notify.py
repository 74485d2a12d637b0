"""Asks systemd for more time than a unit of ours was given, as sd_notify(3) says it.

Must not: be needed for anything but time; by hand there is nobody to ask.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Mapping, Optional

ADDRESS = "NOTIFY_SOCKET"


def extend(seconds: float, environment: Optional[Mapping[str, str]] = None) -> bool:
    """Ask that the phase this process runs in may take so long from now on; say whether somebody was asked."""
    address = (os.environ if environment is None else environment).get(ADDRESS, "")
    if not address.startswith(("/", "@")):
        return False
    name = "\0" + address[1:] if address.startswith("@") else address
    text = f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
        line.sendto(text.encode(), name)
        return True
    return False

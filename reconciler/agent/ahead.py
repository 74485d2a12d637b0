"""Imports what is imported late elsewhere, so that a transition does not depend on files it has not read yet.

A look is fast because it imports only what it needs. An executor works for an hour: meanwhile its own directory may be
removed, or the host's Python upgraded, and a module that is first asked for on the way back would not be there.

Must not: fail. What cannot be imported now is told by whoever needs it.
"""

import contextlib
import importlib

_LATE = ("http.client", "pynvml", "shutil", "urllib.parse", "xml.etree.ElementTree")
_LATE_OF_OURS = ("nvml", "smi", "web")


def import_all() -> None:
    """Import them. The library of the driver is not loaded by it: that is for the child alone."""
    for name in (*_LATE, *(f"{__package__}.{each}" for each in _LATE_OF_OURS)):
        with contextlib.suppress(Exception):
            importlib.import_module(name)

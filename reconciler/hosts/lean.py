"""Loading a library without the optional parts that are not used.

Must not: leave anything changed for others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def modules_absent(*names: str) -> Iterator[None]:
    """Make modules that are not loaded yet look as if they were not installed, for the length of a block."""
    missing = [name for name in names if name not in sys.modules]
    # None in this table is Python's own way to say that a module cannot be imported.
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # the stub does not know the None
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]

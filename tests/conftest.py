"""What holds for every test: it leaves the process where it found it.

Must not: hold fixtures of one area; those stand beside its tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _the_working_directory_stays() -> Iterator[None]:
    """Others read the repository by relative paths: a test that moves the process fails them by their order alone."""
    before = Path.cwd()
    yield
    assert Path.cwd() == before, "the test left the process in another directory"

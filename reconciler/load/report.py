"""Gathers findings about one document as problems with a place.

Must not: judge anything.
"""

from __future__ import annotations

from reconciler.errors import Problem
from reconciler.load.codes import problem
from reconciler.load.document import Document, Path
from reconciler.load.values import Finding


class Report:
    """Where the checks of one document put what they find."""

    __slots__ = ("document", "problems")

    def __init__(self, document: Document, problems: list[Problem]) -> None:
        self.document = document
        self.problems = problems

    def at_value(self, path: Path, finding: Finding | None) -> None:
        """Add a finding at a value; None adds nothing."""
        if finding is not None:
            where = self.document.where(path)
            self.problems.append(problem(finding.code, where, finding.detail, finding.fix))

    def at_key(self, path: Path, finding: Finding | None) -> None:
        """Add a finding at the key of a value; None adds nothing."""
        if finding is not None:
            where = self.document.where(path, key=True)
            self.problems.append(problem(finding.code, where, finding.detail, finding.fix))

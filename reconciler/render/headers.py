"""A rendered file with its header, for a host or for git, and the way back.

Must not: change a body.
"""

from __future__ import annotations

from typing import NamedTuple

from reconciler.model.header import NOTICE, body_of, header
from reconciler.model.rendered import RenderedFile

_FIELD = "# recon-"


class Header(NamedTuple):
    """What a header says; `source_commit` is None in files committed to git."""

    owner: str
    config_hash: str
    source_commit: str | None


def with_header(file: RenderedFile, owner: str, commit: str) -> str:
    """Return a file as it lies on a host; `owner` is `<fleet>/<host>`, `commit` the label of the source."""
    return header(owner, file.config_hash, commit) + file.body


def with_git_header(file: RenderedFile, owner: str) -> str:
    """Return a file as it lies in git: without a commit, for that is the commit which holds the file."""
    return header(owner, file.config_hash, None) + file.body


def split_header(text: str) -> tuple[Header | None, str]:
    """Part a file into its header and its body; the header is None when the file is not ours."""
    body = body_of(text)
    comments = text[: len(text) - len(body)].splitlines()
    fields = dict(line.removeprefix(_FIELD).partition(": ")[::2] for line in comments if line.startswith(_FIELD))
    if not comments or comments[0] != NOTICE or not {"owner", "config-hash"} <= fields.keys():
        return None, body
    return Header(fields["owner"], fields["config-hash"], fields.get("source-commit")), body

"""The comment lines every managed file begins with: whose it is, which body follows, which commit it came from.

One function, for `render` writes the header into `quadlets/` (without a commit: the file is part of it) and `apply`
stamps it on what a host gets. Digests and hashes leave the header out, so a new commit alone changes no file's body.

Must not: know what the body is.
"""

from __future__ import annotations

NOTICE = "# Managed by recon: change desired/ in git, then run recon apply."


def header(owner: str, config_hash: str, commit: str | None) -> str:
    """Return the header lines, each with its line end.

    Args:
        owner: `<fleet>/<host>`.
        config_hash: the 16 hex digits of the body's hash.
        commit: what `Source.label` says; None leaves the line out.

    Raises:
        ValueError: a value would break out of its comment line.
    """
    lines = [NOTICE, f"# recon-owner: {owner}", f"# recon-config-hash: {config_hash}"]
    if commit is not None:
        lines.append(f"# recon-source-commit: {commit}")
    for line in lines:
        if not line.isprintable():
            raise ValueError(f"not one printable line: {line!r}")
    return "".join(line + "\n" for line in lines)


def body_of(text: str) -> str:
    """Return what follows the header: everything from the first line that does not begin with `#`."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if not line.startswith("#"):
            return "".join(lines[number:])
    return ""

"""Tokens of locks as people keep them: the host's name, a colon, and what the host compares.

So a token is told to its own host alone, also when a run goes to many.

Pure. Must not: judge a token; its host does.
"""

from __future__ import annotations

from collections.abc import Iterable


def shown(host: str, token: str) -> str:
    """Return a token as its holder gets it."""
    return f"{host}:{token}"


def of_host(tokens: Iterable[str], host: str) -> tuple[str, ...]:
    """Return what a host is told of some tokens: its own; one that names no host may be of any."""
    parted = [token.rpartition(":") for token in tokens]
    return tuple(secret for name, _, secret in parted if name in {"", host})

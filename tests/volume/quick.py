"""Makes histories quicker without making them others: what is pure is worked out once for the same bytes.

A history reads the same few files again and again, and ten thousand histories read the same ones. So the pure readers
of the agent (bytes in, a value out, nothing kept) answer from memory while histories are played. What they are asked,
what they answer and every call of the machine stay the same, to the byte.

Must not: remember what depends on a machine, a clock or an earlier call, or hand out what two callers can change.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from reconciler.agent import files, generator, lines, plain, record, systemd

_KEPT = 1 << 13


def _unseal(really: Callable[..., Any]) -> Callable[..., Any]:
    """Remember a body, as bytes where it is nested, from which each caller gets one of its own."""
    known: dict[tuple[bytes, str], bytes | dict[str, Any]] = {}

    def unseal(data: bytes, name: str = "") -> Any:
        body = known.get((data, name))
        if body is None:
            found = really(data, name)
            if len(known) >= _KEPT:
                known.clear()
            is_flat = not any(isinstance(value, (dict, list)) for value in found.values())
            known[data, name] = found.copy() if is_flat else marshal.dumps(found)
            return found
        if isinstance(body, dict):
            return body.copy()
        return marshal.loads(body)  # its own bytes, never anybody else's

    return unseal


def _copied(really: Callable[..., Any]) -> Callable[..., Any]:
    """Remember a flat dictionary or list of values that nobody can change; each caller gets a copy."""
    known = functools.lru_cache(_KEPT)(really)
    return lambda *args: known(*args).copy()


_PURE: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (record, "unseal", _unseal),
    (systemd, "parse_show", _copied),
    (files, "read_header", functools.lru_cache(_KEPT)),
    (generator, "split_exec", _copied),
    (generator, "split_units", _copied),
    (generator, "resolve", functools.lru_cache(_KEPT)),
    (generator, "_service", _copied),
    (lines, "body_of", _copied),
)


@functools.cache
def _swaps() -> tuple[tuple[Any, str, Any, Any], ...]:
    """Return module, name, the function that is there and the one that remembers."""
    found = [(where, name, really := getattr(where, name), keep(really)) for where, name, keep in _PURE]
    clean = functools.lru_cache(_KEPT)(plain.clean)
    agents = [module for name, module in sorted(sys.modules.items()) if name.startswith("reconciler.agent.")]
    found += [(module, "clean", plain.clean, clean) for module in agents if vars(module).get("clean") is plain.clean]
    return tuple(found)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Let the pure readers remember for the length of a block; one that a test has replaced is left as it is."""
    swapped = [swap for swap in _swaps() if getattr(swap[0], swap[1]) is swap[2]]
    for where, name, _, remembering in swapped:
        setattr(where, name, remembering)
    try:
        yield
    finally:
        for where, name, really, _ in swapped:
            setattr(where, name, really)

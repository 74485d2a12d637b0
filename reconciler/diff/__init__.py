"""Differences between what is declared and what a host runs, each with its cause.

Pure: no I/O, no clock. Volatile facts (pids, bytes, temperatures, health at one moment) never become changes: observing
right after an apply gives none. Must not: decide what is done about a difference.
"""

from reconciler.diff.host import diff_host, ignored_facts

__all__ = ["diff_host", "ignored_facts"]

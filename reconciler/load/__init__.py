"""Reads what git says: YAML with positions into a `Fleet`, all problems at once; the schema; a new repository.

Must not: ask hosts, decide, render, print.
"""

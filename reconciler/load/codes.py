"""The codes of everything that can be wrong with the files in git, each with the one sentence it always has.

docs/reference/errors.md explains each of them; a test keeps the two alike.

Must not: read files, decide whether something is wrong.
"""

from __future__ import annotations

from typing import Any

from reconciler.errors import Problem, Where

SUMMARIES = {
    # The bytes and the YAML of one file.
    "REC1001": "not valid UTF-8",
    "REC1002": "byte order mark",
    "REC1003": "file too large",
    "REC1004": "tab used for indentation",
    "REC1005": "key given twice",
    "REC1006": "too many aliases",
    "REC1007": "alias inside its own anchor",
    "REC1008": "alias without an anchor",
    "REC1009": "nested too deeply",
    "REC1010": "YAML tag",
    "REC1011": "YAML directive",
    "REC1012": "several documents in one file",
    "REC1013": "empty file",
    "REC1014": "top level is not a mapping",
    "REC1015": "key is not plain text",
    "REC1016": "integer too large",
    "REC1017": "number is not finite",
    "REC1018": "text that other YAML readers take for a date or time",
    "REC1019": "not a YAML 1.2 boolean",
    "REC1020": "number written in an ambiguous way",
    "REC1021": "control character",
    "REC1022": "invisible or text-reordering character",
    "REC1023": "merge key overrides a key",
    "REC1024": "not a regular file",
    "REC1025": "two files define the same object",
    "REC1026": "unresolved merge markers",
    "REC1027": "secret in plain text",
    "REC1028": "encrypted values cannot be verified",
    "REC1029": "not valid YAML",
    "REC1030": "cannot read file",
    # What the keys and values mean.
    "REC2001": "unknown key",
    "REC2002": "missing key",
    "REC2003": "wrong type",
    "REC2004": "port is out of range or taken",
    "REC2005": "unknown coven",
    "REC2006": "coven without services",
    "REC2007": "more GPU memory than the host has",
    "REC2009": "more than one claim on a coven or a slot",
    "REC2010": "bad duration",
    "REC2011": "bad size",
    "REC2012": "time limit too long",
    "REC2013": "no health probe",
    "REC2014": "image is not pinned by digest",
    "REC2015": "malformed image reference",
    "REC2017": "mount is not allowed",
    "REC2018": "dependency cycle",
    "REC2019": "unsupported version",
    "REC2021": "bad health URL",
    "REC2023": "the spiral is not run by this version",
    "REC2024": "nothing desired",
    "REC2025": "model is not exactly one of path and hub",
    "REC2026": "key does not belong to this runtime",
    "REC2027": "argument that the runtime adds itself",
    "REC2028": "bad schedule",
    "REC2029": "bad set of GPUs",
    "REC2030": "two hosts with the same address",
    "REC2031": "listed twice",
    "REC2032": "unknown service",
    "REC2033": "coven that the host may not run",
    "REC2034": "value not allowed",
    "REC2035": "bad host key",
    "REC2036": "file in the wrong place",
    "REC2040": "model cannot be given to this runtime in this way",
    "REC2041": "argument that hides the work in flight",
    "REC2042": "stop timeout shorter than what the server promises",
    "REC2043": "admission that the service does not have",
    "REC2044": "bad hook",
    "REC2045": "drop_caches is for unified and gh200 hosts",
    "REC2060": "the watchdog would look too often or too seldom",
    "REC2061": "the watchdog would forget its restarts too soon",
    "REC2062": "the reset command is no absolute path",
    # Names and values that reach units, command lines and the network.
    "REC3001": "bad name",
    "REC3002": "unit belongs to recon",
    "REC3003": "two names become the same",
    "REC3004": "bad path",
    "REC3005": "line break or control character in a value",
    "REC3007": "value too long",
    "REC3009": "bad environment variable",
    "REC3010": "bad user or address",
    "REC3011": "ambiguous address",
    "REC3012": "command given as one text",
    # What a command was asked to do.
    "REC7040": "folder is not empty",
}


def problem(code: str, where: Where | None, detail: str, fix: str) -> Problem:
    """Make the problem of that code; its summary is always the same words."""
    return Problem(code=code, summary=SUMMARIES[code], detail=detail, fix=fix, where=where)


def shown(value: Any, limit: int = 60) -> str:
    """Quote a value from a file so that it is safe on a terminal and short."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + "'"

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
    "REC2050": "a bot is asked nothing",
    "REC2051": "name where an address is needed",
    "REC2052": "key that does not belong to this source of a model",
    "REC2053": "bad revision of a model",
    "REC2060": "the watchdog would look too often or too seldom",
    "REC2061": "the watchdog would forget its restarts too soon",
    "REC2062": "the reset command is no absolute path",
    "REC2070": "two windows want the slot at the same time",
    "REC2071": "window without a slot of the host",
    "REC2072": "coven of a window on two slots",
    "REC2073": "window that can never begin",
    "REC2080": "spiral unit is not exactly one of argv and image",
    "REC2081": "program of the spiral is no absolute path",
    "REC2082": "key does not belong to this part of the spiral",
    "REC2083": "file of the spiral is not below its root",
    "REC2084": "rate cap without a key of its own",
    "REC2085": "bad reaper",
    "REC2086": "spiral is enabled and not declared",
    "REC2087": "spiral without a slot",
    "REC2088": "authority that is recon itself",
    "REC2089": "bad share or back-off",
    "REC2110": "scope: user has nothing that needs root",
    "REC2111": "unknown host of a share",
    "REC2112": "host in more than one share, or twice in one",
    "REC2113": "a share needs root on its hosts",
    "REC2114": "second producer in a share",
    "REC2115": "workers with nothing to run",
    "REC2116": "options of a share exclude one another",
    "REC2117": "rate caps on a worker of a share",
    "REC2118": "root of a worker is nobody on the hub",
    "REC2120": "that cannot be taken over",
    "REC2121": "a shared service is never taken over",
    "REC2124": "bad name of a container",
    "REC2125": "two containers of a host would have one name",
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
    # Who is told of what happens.
    "REC7320": "bad address of a webhook",
    "REC7321": "bad file of keys",
    "REC7322": "unknown event",
    # What a command was asked to do.
    "REC7040": "folder is not empty",
    "REC7421": "file is there already",
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

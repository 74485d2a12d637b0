"""Turns what pydantic says about a value into a problem a person can act on: code, place, reason, what to type.

Must not: validate anything itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from reconciler.errors import Problem, Where
from reconciler.load.codes import problem, shown
from reconciler.load.document import Document
from reconciler.load.scalars import YAML11_BOOLEANS
from reconciler.load.schema_path import Location, description_at, keys_at, words_at
from reconciler.model.base import NAME_PATTERN

_EXAMPLES = {
    "version": "1",
    "name": "studio",
    "address": "192.0.2.11",
    "runtime": "vllm",
    "image": "registry.example.net/name@sha256:…",
    "memory": "96GiB",
    "unit": "qdrant.service",
    "gpus": '["0"]',
    "coven": "reasoning",
    "from": '"02:00"',
    "to": '"04:00"',
    "health": "/health",
    "path": "/metrics",
    "in_flight": "none",
    "port": "8000",
    "timeout": "30s",
    "on_timeout": "abort",
    "url": '"http://127.0.0.1:9000/drain"',
}
_EMPTY = {
    "services": ("REC2006", "add a service"),
    "units": ("REC2080", "add a unit"),
    "argv": ("REC2081", "write a program by its whole path, and its words"),
    "keys": ("REC2084", "name a key for each cap, such as 'jobs_per_hour: limits.jobs_per_hour'"),
    "paths": ("REC2085", "name a directory, or remove 'reaper'"),
}
_KINDS = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}
_PATTERN_CODES = {
    "user": "REC3010",
    "jump": "REC3010",
    "unit": "REC3010",
    "path": "REC3004",
    "from": "REC2028",
    "to": "REC2028",
    "days": "REC2028",
    "url": "REC2044",
    "authorities": "REC2088",
    "container_name": "REC2124",
}
_PATTERN_FIXES = {
    "user": "write a login name of lower-case letters, digits, '_', '-' and '.'",
    "jump": "write user@host",
    "unit": "write a unit name such as qdrant.service",
    "container_name": "write letters, digits, '_', '.' and '-', a letter or digit first",
    "adopts": "write the name of a unit such as llama.service, or of a container",
    "path": "start it with '/'",
    "url": "start it with http:// or https://",
    "authorities": "write unit names with * and ?, such as spiral-*",
    "key": "write keys with dots between them, such as state.converged",
    "health": "start a path with '/', a URL with http://",
    "from": 'write a time of day such as "02:00", quoted',
    "to": 'write a time of day such as "04:00", quoted',
    "days": "write days such as Mon..Fri or Sat,Sun",
}


def nearest(word: object, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    matches = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """Return one problem for each thing the schema found in a document."""
    found = error.errors(include_url=False)
    kept = [item for item in found if not _is_other_branch(item, found)]
    return [_explain_one(item, document, model) for item in kept]


def _is_other_branch(item: Any, found: Sequence[Any]) -> bool:
    """Tell whether an error is about the branch of `in_flight` that was not meant.

    A mapping was meant as a mapping; anything else was meant as the word `none`.
    """
    location = item["loc"]
    if "in_flight" not in location:
        return False
    at = location.index("in_flight")
    branch = location[at + 1] if len(location) > at + 1 else None
    is_mapping_branch = branch == "InFlight"
    was_mapping = any(
        other["loc"][: at + 2] == (*location[: at + 1], "InFlight") and not other["type"].startswith("model")
        for other in found
    )
    return branch is not None and is_mapping_branch != was_mapping


def _explain_one(item: Any, document: Document, model: type[BaseModel]) -> Problem:
    # Branches of a union are steps of pydantic's location, and none of the file.
    location: Location = tuple(
        step for step in item["loc"] if step != "InFlight" and not str(step).startswith("literal[")
    )
    kind: str = item["type"]
    value = item["input"]
    if location and location[-1] == "[key]":
        return _bad_name(location[:-1], value, document)
    if kind == "extra_forbidden":
        return _unknown_key(location, document, model)
    if kind == "missing":
        return _missing(location, document, model)
    if isinstance(value, str) and len(location) == 2 and location[0] == "hooks" and kind.endswith("_type"):
        return _shell_hook(str(location[1]), value, document.where(location))
    if kind.endswith("_type"):
        return _wrong_type(kind, value, document, location)
    if kind == "literal_error":
        return _not_one_of(value, document, location, model)
    if kind == "string_pattern_mismatch":
        return _bad_pattern(value, item["ctx"]["pattern"], document, location)
    return _out_of_bounds(kind, value, str(item["msg"]), document, location)


def _out_of_bounds(kind: str, value: Any, said: str, document: Document, location: Location) -> Problem:
    where = document.where(location)
    key = location[-1] if location else ""
    if kind in ("duration", "duration_range"):
        return problem(
            "REC2010", where, _why_no_quantity(value, "duration", "more than 0, at most 168h"), _duration_hint(value)
        )
    if kind == "size":
        return problem("REC2011", where, _why_no_quantity(value, "size", "B, KiB, MiB, GiB or TiB"), _size_hint(value))
    if kind == "age":
        detail = _why_no_quantity(value, "duration", "h, m or s, at most ten years")
        return problem("REC2010", where, detail, "write for example 720h")
    if kind == "percent":
        return problem("REC2089", where, f"{shown(value)} is not a share", "write for example 95%, at most 100%")
    if kind == "scalar":
        detail = "a list, a mapping or nothing is compared with no value"
        return problem("REC2003", where, detail, "write true, false, a number or a text")
    if kind == "too_short":
        code, fix = _EMPTY.get(str(key), ("REC2029", "name at least one GPU"))
        return problem(code, where, "it is empty", fix)
    if key == "port":
        return problem("REC2004", where, f"{shown(value)} is not a port", "write a number from 1 to 65535")
    return problem(
        "REC2034", where, f"{shown(value)}: {said[:1].lower()}{said[1:]}", "write a value inside these bounds"
    )


def _why_no_quantity(value: Any, what: str, bounds: str) -> str:
    return f"{shown(value)} is not a {what} with its unit ({bounds})"


def _unknown_key(location: Location, document: Document, model: type[BaseModel]) -> Problem:
    key = str(location[-1])
    where = document.where(location, key=True)
    if key in ("secrets", "sops"):
        return _secret(key, document, location)
    allowed = keys_at(model, location[:-1])
    meant = nearest(key, allowed)
    detail = f"{shown(key)} is not a key of this file" if len(location) == 1 else f"{shown(key)} is not a key here"
    return problem(
        "REC2001", where, detail, f"did you mean '{meant}'?" if meant else f"use one of: {', '.join(allowed)}"
    )


def _secret(key: str, document: Document, location: Location) -> Problem:
    """Refuse secrets: plain ones do not belong into git, and this version cannot check encrypted ones."""
    value: Any = document.value
    for step in location:
        value = value[step]
    fix = "keep secrets on the host, and mount the file that holds them"
    plain = _plain_secret(value) if key == "secrets" else None
    if plain is not None:
        detail = "git keeps for ever what was committed once; take the secret back where it was issued"
        return problem("REC1027", document.where((*location, *plain)), detail, fix)
    detail = "this version does not read SOPS files, so nobody would notice that they were changed"
    return problem("REC1028", document.where(location, key=True), detail, fix)


def _plain_secret(value: Any) -> Location | None:
    if isinstance(value, dict):
        for key, inner in value.items():
            found = _plain_secret(inner)
            if found is not None:
                return (key, *found)
        return None
    if isinstance(value, tuple):
        for index, inner in enumerate(value):
            found = _plain_secret(inner)
            if found is not None:
                return (index, *found)
        return None
    return None if value is None or str(value).startswith("ENC[") else ()


def _missing(location: Location, document: Document, model: type[BaseModel]) -> Problem:
    key = str(location[-1])
    where = document.where(location)
    if key == "services":
        return problem("REC2006", where, "a coven is its services", "add 'services:' with at least one")
    said = description_at(model, location)
    detail = f"'{key}' is needed" + (f": {said[0].lower()}{said[1:]}" if said else "")
    return problem("REC2002", where, detail, f"add '{key}: {_EXAMPLES.get(key, '…')}'")


def _wrong_type(kind: str, value: Any, document: Document, location: Location) -> Problem:
    where = document.where(location)
    key = location[-1] if location else ""
    wanted = _KINDS.get(kind.removesuffix("_type"), "another kind of value")
    if kind == "bool_type" and isinstance(value, str) and value.lower() in YAML11_BOOLEANS:
        word = "true" if YAML11_BOOLEANS[value.lower()] else "false"
        return problem("REC1019", where, f"{shown(value)} is text in YAML 1.2", f"write {word}")
    if kind == "tuple_type" and isinstance(value, str):
        if key in ("args", "command", "argv"):
            detail = f"{shown(value)} would have to be taken apart as a shell does, and no shell is used"
            return problem(
                "REC3012", where, detail, f"use a list: [{', '.join(_word(part) for part in value.split()[:4])}]"
            )
        return problem("REC2003", where, f"{shown(value)} is text where a list is expected", f"write [{value[:40]}]")
    if value is None:
        if key == "services":
            return problem("REC2006", where, "a coven is its services", "add at least one under 'services:'")
        return problem(
            "REC2003", where, f"there is no value where {wanted} is expected", "write one, or remove the key"
        )
    if kind == "string_type" and isinstance(value, (int, float)):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return problem("REC2003", where, f"{text} is a number or boolean where text is expected", f'quote it: "{text}"')
    if kind in ("int_type", "float_type", "bool_type") and isinstance(value, str) and _reads_as_number(value):
        return problem("REC2003", where, f'"{value}" is text where {wanted} is expected', f"remove the quotes: {value}")
    found = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, tuple) else shown(value)
    return problem("REC2003", where, f"{found} where {wanted} is expected", f"write {wanted}")


def _shell_hook(name: str, value: str, where: Where | None) -> Problem:
    words = ", ".join(_word(part) for part in value.split()[:4])
    detail = f"{shown(value)} would have to be taken apart as a shell does, and no shell is used"
    fix = f"write '{name}: {{argv: [{words}], timeout: 30s, on_timeout: abort}}'"
    return problem("REC3012", where, detail, fix)


def _reads_as_number(text: str) -> bool:
    return len(text) <= 20 and (text.lstrip("-").isdecimal() or text in ("true", "false"))


def _word(part: str) -> str:
    return f'"{part}"' if part.lstrip("-").isdecimal() or part[:1] in "{[\"'&*" else part


def _not_one_of(value: Any, document: Document, location: Location, model: type[BaseModel]) -> Problem:
    where = document.where(location)
    key = location[-1]
    if key == "version":
        if isinstance(value, int):
            fix = "write 'version: 1', or use a recon that knows this version"
            return problem("REC2019", where, f"this recon reads version 1, the file says {value}", fix)
        return problem("REC2019", where, f"{shown(value)} is not the number 1", "write 'version: 1', without quotes")
    if key == "in_flight":
        fix = "write 'none', or a mapping with 'path' and 'metrics' or 'json_field'"
        return problem("REC2034", where, f"{shown(value)} is not known", fix)
    words = [str(word) for word in words_at(model, location)]
    meant = nearest(value, words)
    detail = f"{shown(value)} is none of {', '.join(words)}"
    return problem(
        "REC2034", where, detail, f"did you mean '{meant}'?" if meant else f"write one of: {', '.join(words)}"
    )


def _bad_pattern(value: Any, pattern: str, document: Document, location: Location) -> Problem:
    if pattern == NAME_PATTERN:
        return _bad_name(location, value, document, is_key=False)
    where = document.where(location)
    key = next((str(step) for step in reversed(location) if isinstance(step, str)), "")
    code = _PATTERN_CODES.get(key, "REC2021" if "shared" in location else "REC3004" if key == "health" else "REC2034")
    fix = _PATTERN_FIXES.get(key, "compare it with the example in the reference")
    return problem(code, where, f"{shown(value)} is not written as expected", fix)


def _bad_name(location: Location, value: Any, document: Document, *, is_key: bool = True) -> Problem:
    where = document.where(location, key=is_key)
    return problem("REC3001", where, name_rule(value), name_hint(value))


def name_rule(value: Any) -> str:
    """Say why a name is not one."""
    return (
        f"{shown(value)} becomes part of unit and file names: a-z first, then a-z, 0-9 and '-', at most 31 characters"
    )


def name_hint(value: Any) -> str:
    """Offer the nearest name that is allowed."""
    cleaned = "".join(c if c.isascii() and c.isalnum() else "-" for c in str(value).lower()).lstrip("-0123456789")[:31]
    return f"write '{cleaned.strip('-')}'" if cleaned.strip("-") else "write a short name of lower-case letters"


def _duration_hint(value: Any) -> str:
    if (isinstance(value, int | float) and value > 0) or (isinstance(value, str) and value.isdecimal()):
        return f"say the unit: {value}s, or {value}m for minutes"
    return "write for example 90s, 5m or 1h30m"


def _size_hint(value: Any) -> str:
    text = str(value).strip()
    digits = text.rstrip("BGMKTibgmkt ").strip()
    unit = text[len(digits) :].strip().upper()[:1]
    if isinstance(value, bool) or not digits.replace(".", "", 1).isdecimal() or len(digits) > 12:
        return "write for example 96GiB"
    return f"write {digits}{unit if unit in ('K', 'M', 'T') else 'G'}iB (1 GiB is 1024 MiB)"

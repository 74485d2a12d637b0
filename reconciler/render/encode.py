"""Encoders: one per place a value can land in, so that it arrives there as the bytes that were meant.

A value on its way into a container is read three times: podman's Quadlet parser splits it into words, podman writes
those words into `ExecStart=` without protecting `%`, `$` or a lone `;`, and systemd reads that line again. What holds
here was decided by the real programs (`tests/lab/test_render_real_generator.py`), not by their manuals.

`%i`, the instance name, is empty in a unit that is no instance. It is the only spelling of nothing that survives all
three readers: an empty pair of quotes ends podman's word splitting and drops every word after it.

Must not: know which unit a value is for, or let a control character through.
"""

from __future__ import annotations

import re
import unicodedata

from reconciler.errors import DesiredStateError, Problem

NOTHING = "%i"
_PLAIN = re.compile(r"[A-Za-z0-9_@:,./=+-]+")
_UNSAFE_SOURCE = re.compile(r"[\s\"'\\]")
_UNITS = ((2**40, "t"), (2**30, "g"), (2**20, "m"), (2**10, "k"))


def check_text(value: str, *, field: str) -> str:
    """Return the value when it can stand on one line of a unit file; REC3005 otherwise."""
    if value.isascii() and value.isprintable():
        return value
    for place, char in enumerate(value):
        # Cc: C0, DEL and C1 (newline, tab, ESC …). Cs: half a surrogate pair, which no file can hold.
        if unicodedata.category(char) in {"Cc", "Cs"} or char in "\u2028\u2029":
            raise DesiredStateError(
                Problem(
                    "REC3005",
                    "a value holds a control character",
                    f"{field} has U+{ord(char):04X} at character {place + 1}; in a unit file it would end the line"
                    " and what follows would be read as directives",
                    "remove it; a program that needs such text reads it from a mounted file",
                )
            )
    return value


def word(value: str, *, field: str) -> str:
    """Encode one argument for a Quadlet key that podman splits into words: `Exec=`, `AddDevice=`."""
    check_text(value, field=field)
    if not value:
        return NOTHING
    if _PLAIN.fullmatch(value):
        return value
    if value == ";":
        # A word of its own would begin a second command.
        return f'";{NOTHING}"'
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def words(values: tuple[str, ...], *, field: str) -> str:
    """Encode arguments as one line."""
    return " ".join(word(value, field=f"{field}[{place}]") for place, value in enumerate(values))


def assignment(key: str, value: str, *, field: str) -> str:
    """Encode `KEY=value` for `Environment=` and `Label=` of a `[Container]` section."""
    return word(f"{key}={value}", field=field)


def environment(key: str, value: str, *, field: str) -> str:
    """Encode `KEY=value` for `Environment=` of a unit that systemd reads itself: there `$` means nothing."""
    text = check_text(f"{key}={value}", field=field)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def raw(value: str, *, field: str) -> str:
    """Encode a Quadlet value that podman takes whole and puts into `ExecStart=`: `Volume=`, `Image=`."""
    return _hold_ends(check_text(value, field=field).replace("%", "%%").replace("$", "$$"))


def volume(value: str, *, field: str) -> str:
    """Encode `/host:/container[:options]` for `Volume=`.

    Podman copies the host path into `RequiresMountsFor=` too, as it stands, where systemd splits it into words: white
    space, quotes and backslashes cannot be right in both places, so REC3004 refuses them there.
    """
    source = check_text(value, field=field).split(":", 1)[0]
    if _UNSAFE_SOURCE.search(source):
        raise DesiredStateError(
            Problem(
                "REC3004",
                "a host path has a character that podman cannot pass on",
                f"{field} mounts {source!r}: podman also writes the path into RequiresMountsFor=, where white space,"
                " quotes and backslashes break it apart",
                "rename the directory on the host, or bind-mount it under a plain name",
            )
        )
    return raw(value, field=field)


def unit_value(value: str, *, field: str) -> str:
    """Encode free text that systemd itself reads whole, such as `Description=`: there `$` means nothing."""
    return _hold_ends(check_text(value, field=field).replace("%", "%%"))


def podman_size(size: int) -> str:
    """Say bytes for podman: the largest unit that is exact, `16g`."""
    for unit, letter in _UNITS[1:]:
        if size and size % unit == 0:
            return f"{size // unit}{letter}"
    return f"{size}b"


def systemd_size(size: int) -> str:
    """Say bytes for systemd: the largest unit that is exact, `96G`."""
    for unit, letter in _UNITS:
        if size and size % unit == 0:
            return f"{size // unit}{letter.upper()}"
    return str(size)


def systemd_seconds(seconds: float) -> str:
    """Say seconds for systemd, milliseconds when there is a fraction."""
    return str(int(seconds)) if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def cpu_quota(cpus: float) -> str:
    """Say processors as the percentage `CPUQuota=` takes; a bare `%`, for it knows no specifiers."""
    return f"{max(cpus * 100, 0.01):.2f}".rstrip("0").rstrip(".") + "%"


def _hold_ends(text: str) -> str:
    """Keep what parsers cut off: white space at the ends, and a backslash that would swallow the next line."""
    if text[:1].isspace():
        text = NOTHING + text
    if text.endswith("\\") or text[-1:].isspace():
        text += NOTHING
    return text

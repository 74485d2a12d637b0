"""Asks the host's own Quadlet generator what it makes of a staged generation, and compares it with what was reviewed.

Generated text is not deterministic across runs, so never the text is compared but what podman would be told: the
image, the words after it, and the container's name. Nothing is installed or loaded by asking.

Must not: change anything outside its own temporary directory.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from .machine import Machine
from .plain import clean, clean_lines
from .words import WordsError, resolve, split_exec

GENERATOR = "/usr/lib/systemd/system-generators/podman-system-generator"
_TIMEOUT_S = 30.0
_TIMED_OUT, _NOT_THERE = 124, 127


class GeneratorError(Exception):
    """The generator could not be asked, or made something else than was reviewed."""


def generate(machine: Machine, directory: str) -> Dict[str, str]:
    """Return the text of every unit the generator makes of a directory, by unit name."""
    done = machine.run([GENERATOR, "--dryrun"], _TIMEOUT_S, env={"QUADLET_UNIT_DIRS": directory})
    if done.rc != 0:
        why = "; ".join(clean_lines(done.err, 6)) or f"exit status {done.rc}"
        raise GeneratorError(f"the host's quadlet generator refuses the new files: {why}")
    return split_units(done.out.decode("utf-8", "surrogateescape"))


def split_units(output: str) -> Dict[str, str]:
    """Split the generator's output at its `---name.service---` lines."""
    units: Dict[str, str] = {}
    name = ""
    for line in output.splitlines(keepends=True):
        bare = line.rstrip("\n")
        if bare.startswith("---") and bare.endswith(".service---"):
            name = bare[3:-3]
            units[name] = ""
        elif name:
            units[name] += line
    return units


def compare(units: Dict[str, str], members: Sequence[Dict[str, Any]]) -> List[str]:
    """Return what differs between the generated units and the members as reviewed; empty when nothing does."""
    problems: List[str] = []
    for member in members:
        text = units.get(member["unit"])
        if text is None:
            problems.append(f"{member['unit']}: the generator made no such unit")
            continue
        problem = _difference(text, member)
        if problem:
            problems.append(f"{member['unit']}: {problem}")
    return problems


def verify(
    machine: Machine, units: Dict[str, str], natives: Dict[str, str], scratch: str, *, away: str = ""
) -> List[str]:
    """Let systemd read generated and native units from a scratch directory and return its complaints about them.

    Args:
        machine: the host.
        units: generated ones by name.
        natives: those that are written as they are.
        scratch: a directory that is nobody's.
        away: a directory that is mounted only when the units are there: that a program lies in it is not asked, and
            who hangs because its server does finds fault with nothing.
    """
    files = dict(units)
    files.update(natives)
    machine.remove_tree(scratch)
    machine.mkdir(scratch, 0o700)
    try:
        for name, text in sorted(files.items()):
            machine.write(f"{scratch}/{name}", text.encode("utf-8", "surrogateescape"))
        argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes"]
        argv += [f"{scratch}/{name}" for name in sorted(files)]
        # The colon at the end keeps the host's own unit path behind ours.
        done = machine.run(argv, _TIMEOUT_S, env={"SYSTEMD_UNIT_PATH": f"{scratch}:", "SYSTEMD_LOG_LEVEL": "warning"})
    finally:
        machine.remove_tree(scratch)
    if done.rc == 0:
        return []
    if done.rc in (_TIMED_OUT, _NOT_THERE):
        # What nobody looked at is not well, but for a look that only a hub can end.
        return [] if away and done.rc == _TIMED_OUT else [f"systemd-analyze verify: {clean(done.err, 200)}"]
    # The host's other units may have faults of their own; those are not ours to refuse.
    ours = [line for line in clean_lines(done.err, 200) if scratch in line or any(name in line for name in files)]
    if away:
        ours = [line for line in ours if f" {away}/" not in line or "is not executable" not in line]
    return ours[:8]


def _difference(text: str, member: Dict[str, Any]) -> Optional[str]:
    lines = [value for key, value in _service(text) if key == "ExecStart"]
    if len(lines) != 1:
        return f"{len(lines)} ExecStart= lines instead of one"
    try:
        words = split_exec(lines[0])
        tail = len(member["argv"]) + 1
        got = [resolve(word) for word in words[-tail:]]
    except WordsError as error:
        return f"its command line cannot be read: {error}"
    wanted = [member["image"], *member["argv"]]
    if got != wanted:
        return _first_difference(got, wanted)
    options = words[: len(words) - tail]
    if _name_in(options) != member["container"]:
        return f"the container would be named {clean(str(_name_in(options)))}, not {clean(member['container'])}"
    return None


def _first_difference(got: List[str], wanted: List[str]) -> str:
    for index, want in enumerate(wanted):
        have = got[index] if index < len(got) else None
        if have != want:
            shown = "nothing" if have is None else clean(have, 120)
            where = "the image" if index == 0 else f"word {index} after the image"
            return f"{where} would be {shown}, not {clean(want, 120)}"
    return "its words differ from what was reviewed"


def _name_in(options: List[str]) -> Optional[str]:
    name: Optional[str] = None
    for index, word in enumerate(options):
        if word == "--name" and index + 1 < len(options):
            name = options[index + 1]
        elif word.startswith("--name="):
            name = word[len("--name=") :]
    return name


def _service(text: str) -> "List[tuple[str, str]]":
    """Return the key-value pairs of the [Service] section, continued lines joined as systemd joins them."""
    pairs = []
    section = ""
    pending = ""
    for line in text.splitlines():
        if pending and line.lstrip()[:1] in ("#", ";"):
            continue
        whole = pending + line
        pending = ""
        if whole.endswith("\\"):
            pending = whole[:-1] + " "
            continue
        stripped = whole.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped[0] == "[":
            section = stripped
        elif section == "[Service]" and "=" in stripped:
            key, value = stripped.split("=", 1)
            pairs.append((key.strip(), value.strip()))
    return pairs

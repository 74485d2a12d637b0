"""Podman's Quadlet generator as it behaves at version 5.4: `.container` files in, service units out.

Checked against the real generator: the first file of a name wins, links to directories are followed and the source
path is the resolved one, one unknown key drops its unit, one line that is no setting drops its whole directory.

Must not: load units, run anything.
"""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Sequence
from typing import NamedTuple

from reconciler.sim.files import Files
from reconciler.sim.unitfile import BadUnitError, Sections, is_true, last, parse, quote, split, values

UNIT_DIRS = ("/run/containers/systemd", "/etc/containers/systemd", "/usr/share/containers/systemd")
OUTPUT = "/run/systemd/generator"

_WITH_VALUE = (
    ("Entrypoint", "--entrypoint"), ("StopSignal", "--stop-signal"), ("PidsLimit", "--pids-limit"),
    ("ShmSize", "--shm-size"), ("Timezone", "--tz"), ("WorkingDir", "--workdir"), ("HostName", "--hostname"),
    ("Pull", "--pull"), ("StopTimeout", "--stop-timeout"), ("IP", "--ip"), ("IP6", "--ip6"), ("UserNS", "--userns"),
)  # fmt: skip
_REPEATED = (
    ("Network", "--network"), ("GroupAdd", "--group-add"), ("AddHost", "--add-host"), ("Tmpfs", "--tmpfs"),
    ("Ulimit", "--ulimit"), ("DNS", "--dns"), ("DNSOption", "--dns-option"), ("DNSSearch", "--dns-search"),
)  # fmt: skip
_AFTER_READY = (
    ("AddDevice", "--device"), ("DropCapability", "--cap-drop"), ("AddCapability", "--cap-add"),
    ("Sysctl", "--sysctl"), ("Volume", "-v"), ("PublishPort", "--publish"), ("EnvironmentFile", "--env-file"),
    ("Secret", "--secret"), ("Mount", "--mount"), ("LogOpt", "--log-opt"),
)  # fmt: skip
_HEALTH = (
    "HealthCmd", "HealthInterval", "HealthOnFailure", "HealthRetries", "HealthStartPeriod", "HealthTimeout",
    "HealthStartupCmd", "HealthStartupInterval", "HealthStartupRetries", "HealthStartupSuccess",
    "HealthStartupTimeout", "HealthLogDestination", "HealthMaxLogCount", "HealthMaxLogSize",
)  # fmt: skip
_OTHER = (
    "Annotation", "AutoUpdate", "CgroupsMode", "ContainerName", "ContainersConfModule", "Environment",
    "EnvironmentHost", "Exec", "ExposeHostPort", "GIDMap", "GlobalArgs", "Group", "Image", "Label", "LogDriver", "Mask",
    "NetworkAlias", "NoNewPrivileges", "Notify", "Pod", "PodmanArgs", "ReadOnly", "ReadOnlyTmpfs", "Rootfs", "RunInit",
    "SeccompProfile", "SecurityLabelDisable", "SecurityLabelFileType", "SecurityLabelLevel", "SecurityLabelNested",
    "SecurityLabelType", "ServiceName", "StartWithPod", "SubGIDMap", "SubUIDMap", "UIDMap", "Unmask", "User",
    "VolatileTmp", "RemapGid", "RemapUid", "RemapUidSize", "RemapUsers",
)  # fmt: skip
SUPPORTED = frozenset([key for key, _ in (*_WITH_VALUE, *_REPEATED, *_AFTER_READY)] + [*_HEALTH, *_OTHER])


class Generated(NamedTuple):
    """What the generator makes: unit text by name, the enabling links, and its complaints."""

    units: dict[str, str]
    links: tuple[tuple[str, str, str], ...]
    errors: tuple[str, ...]


class QuadletError(ValueError):
    """A file the generator does not turn into a unit."""


def generate(files: Files, directories: Sequence[str] = UNIT_DIRS) -> Generated:
    """Return what the generator makes of the Quadlets below these directories."""
    units: dict[str, str] = {}
    links: list[tuple[str, str, str]] = []
    sources, errors = _find(files, directories)
    for name, (path, text) in sorted(sources.items()):
        unit = name.removesuffix(".container") + ".service"
        try:
            sections = parse(text)
            units[unit] = _convert(path, text)
        except QuadletError as bad:
            errors.append(f'converting "{name}": {bad}')
            continue
        for key, kind in (("WantedBy", "wants"), ("RequiredBy", "requires")):
            links += [(target, kind, unit) for value in values(sections, "Install", key) for target in value.split()]
    return Generated(units, tuple(links), tuple(errors))


def _find(files: Files, directories: Sequence[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    found: dict[str, tuple[str, str]] = {}
    errors: list[str] = []
    visited: set[str] = set()
    for directory in directories:
        for real in _tree(files, directory, visited):
            here: dict[str, tuple[str, str]] = {}
            bad = []
            for name in files.listdir(real):
                path = posixpath.join(real, name)
                node = files.stat(path)
                if not name.endswith(".container") or node is None or node.kind != "file" or name in found:
                    continue
                text = node.data.decode("utf-8", "replace")
                try:
                    parse(text)
                except BadUnitError as error:
                    bad.append(f'error loading "{path}", file contains {error}')
                here[name] = (path, text)
            # Podman gives up on the directory, not only on the file: everything beside the bad one is gone too.
            errors += bad
            found.update({} if bad else here)
    return found, errors


def _tree(files: Files, directory: str, visited: set[str]) -> list[str]:
    node = files.stat(directory)
    if node is None or node.kind != "dir":
        return []
    real = files.resolve(directory)
    if real in visited:
        return []
    visited.add(real)
    found = [real]
    for name in files.listdir(real):
        below = files.stat(posixpath.join(real, name))
        if below is not None and below.kind == "dir":
            found += _tree(files, posixpath.join(real, name), visited)
    return found


@functools.lru_cache(maxsize=1024)
def _convert(path: str, text: str) -> str:
    sections = parse(text)
    for key, _ in sections.get("Container", ()):
        if key not in SUPPORTED:
            raise QuadletError(f"unsupported key '{key}' in group 'Container' in {path}")
    kind = last(sections, "Service", "Type")
    if kind not in ("", "notify", "oneshot"):
        raise QuadletError(f"invalid service Type '{kind}'")
    lines: list[str] = []
    unit = [("Wants", "network-online.target"), ("After", "network-online.target"), *sections.get("Unit", [])]
    _section(lines, "Unit", [*unit, ("SourcePath", path), ("RequiresMountsFor", "%t/containers")])
    _section(lines, "X-Container", sections.get("Container", []))
    _section(lines, "Service", [*sections.get("Service", []), *_service(sections, kind)])
    for name, settings in sections.items():
        if name not in ("Unit", "Container", "Service", "Quadlet"):
            _section(lines, name, settings)
    return "\n".join(lines)


def _section(lines: list[str], name: str, settings: Sequence[tuple[str, str]]) -> None:
    lines += [f"[{name}]", *(f"{key}={value}" for key, value in settings), ""]


def _service(sections: Sections, kind: str) -> list[tuple[str, str]]:
    podman = " ".join(["/usr/bin/podman", *(word for value in _all(sections, "GlobalArgs") for word in split(value))])
    remove = f"{podman} rm -v -f -i --cidfile=%t/%N.cid"
    settings = [
        ("Environment", "PODMAN_SYSTEMD_UNIT=%n"),
        *([] if last(sections, "Service", "KillMode") else [("KillMode", "mixed")]),
        ("ExecStop", remove),
        ("ExecStopPost", f"-{remove}"),
        ("Delegate", "yes"),
    ]
    if kind != "oneshot":
        settings += [("Type", "notify"), ("NotifyAccess", "all")]
    if not last(sections, "Service", "SyslogIdentifier"):
        settings.append(("SyslogIdentifier", "%N"))
    return [*settings, ("ExecStart", f"{podman} {' '.join(_run_words(sections, kind))}")]


def _run_words(sections: Sections, kind: str) -> list[str]:
    image = last(sections, "Container", "Image")
    if not image:
        raise QuadletError("no Image or Rootfs key specified")
    name = last(sections, "Container", "ContainerName") or "systemd-%N"
    words = ["run", "--name", name, "--cidfile=%t/%N.cid", "--replace", "--rm"]
    driver = last(sections, "Container", "LogDriver")
    words += ["--log-driver", driver] if driver else []
    words.append(f"--cgroups={last(sections, 'Container', 'CgroupsMode') or 'split'}")
    words += _options(sections, _WITH_VALUE, once=True) + _options(sections, _REPEATED)
    words += ["--init"] if is_true(last(sections, "Container", "RunInit")) else []
    if kind != "oneshot":
        words += [f"--sdnotify={_notify(sections)}", "-d"]
    words += _options(sections, _AFTER_READY) + _security(sections)
    for key, option in (("Environment", "--env"), ("Label", "--label"), ("Annotation", "--annotation")):
        words += _pairs(sections, key, option)
    for key in _HEALTH:
        value = last(sections, "Container", key)
        words += [_option_name(key), quote(value)] if value else []
    words += [quote(word) for value in _all(sections, "PodmanArgs") for word in split(value)]
    command = last(sections, "Container", "Exec")
    return [*words, quote(image), *(quote(word) for word in split(command, stop_at_empty=True))]


def _notify(sections: Sections) -> str:
    value = last(sections, "Container", "Notify")
    if value == "healthy":
        return "healthy"
    return "container" if is_true(value) else "conmon"


def _options(sections: Sections, table: Sequence[tuple[str, str]], *, once: bool = False) -> list[str]:
    words: list[str] = []
    for key, option in table:
        found = _all(sections, key)
        for value in found[-1:] if once else found:
            if key == "AddDevice" and value.startswith("-"):
                continue  # podman looks for a file of that name, finds none, and forgets the device
            words += [option, quote(value)]
    return words


def _security(sections: Sections) -> list[str]:
    words = []
    if is_true(last(sections, "Container", "NoNewPrivileges")):
        words.append("--security-opt=no-new-privileges")
    if is_true(last(sections, "Container", "SecurityLabelDisable")):
        words += ["--security-opt", "label=disable"]
    if is_true(last(sections, "Container", "ReadOnly")):
        words.append("--read-only")
    user, group = last(sections, "Container", "User"), last(sections, "Container", "Group")
    return words + (["--user", f"{user}:{group}" if group else user] if user else [])


def _pairs(sections: Sections, key: str, option: str) -> list[str]:
    found: dict[str, str] = {}
    for value in _all(sections, key):
        for word in split(value):
            name, _, rest = word.partition("=")
            found[name] = rest
    return [word for name in sorted(found) for word in (option, quote(f"{name}={found[name]}"))]


def _option_name(key: str) -> str:
    return "--" + "".join(f"-{char.lower()}" if char.isupper() else char for char in key).lstrip("-")


def _all(sections: Sections, key: str) -> list[str]:
    return values(sections, "Container", key)

"""The guardrails of the spiral: what must hold before any of it runs.

Each is checked against what is declared and what is there.

    one-producer    exactly one unit feeds the queue, and nobody else does
    one-authority   systemd restarts each unit, and nobody beside it
    backoff         every unit gives up after a few crashes
    caps            every unit has memory and task caps, and systemd knows them
    reaper          something deletes, by a budget
    convergence     something says when it has arrived
    rate-caps       something says how fast
    claim-safe      on a worker of a share: people have said that two hosts never claim the same job

What steers the loop is the hub's alone: on a worker of a share the last three of the others hold by that.

What cannot be told is broken: a loop that runs away was never one that somebody had looked at.

Must not: change anything.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional

from . import caps, files, rivals, systemd
from . import share as share_of
from .machine import Machine
from .plain import clean

NAMES = ("one-producer", "one-authority", "backoff", "caps", "reaper", "convergence", "rate-caps")
_FILE = "desired/workloads/spiral.yaml"
_SHOWN = ("LoadState", "Restart", "StartLimitBurst", "StartLimitIntervalUSec", "MemoryMax", "TasksMax", "DropInPaths")

Spec = Dict[str, Any]


class Verdict(NamedTuple):
    """How one guardrail stands: `ok`, `broken` or `unknown`, in words, and what to change when it does not hold."""

    name: str
    state: str
    text: str
    fix: str


class _BrokenError(Exception):
    """It does not hold: why, and what to change."""

    def __init__(self, text: str, fix: str) -> None:
        super().__init__(text)
        self.text = text
        self.fix = fix


class _UnknownError(_BrokenError):
    """Whether it holds cannot be told: why, and what to do about that."""


def judge(machine: Machine, spec: Spec) -> List[Verdict]:
    """Judge every guardrail; with `planned` in the spec, by the files that are about to be written."""
    checks = _CHECKS if _worker(spec) is None else {**_CHECKS, **_ON_WORKERS}
    return [_judged(name, check, machine, spec) for name, check in checks.items()]


def told(verdicts: List[Verdict]) -> List[Dict[str, str]]:
    """Return them as `model.plan.Guardrail`."""
    return [verdict._asdict() for verdict in verdicts]


def broken(verdicts: List[Verdict]) -> List[Verdict]:
    """Return those that do not hold."""
    return [verdict for verdict in verdicts if verdict.state != "ok"]


def _worker(spec: Spec) -> Optional[Dict[str, Any]]:
    """Return the share that this host is a worker of, None when it is not."""
    found: Optional[Dict[str, Any]] = spec.get("share")
    return found if found and found["role"] == "worker" else None


def _judged(name: str, check: Callable[[Machine, Spec], str], machine: Machine, spec: Spec) -> Verdict:
    try:
        return Verdict(name, "ok", check(machine, spec), "")
    except _UnknownError as error:
        return Verdict(name, "unknown", f"it cannot be told: {error.text}", error.fix)
    except _BrokenError as error:
        return Verdict(name, "broken", error.text, error.fix)
    except (rivals.RivalsError, systemd.SystemdError, OSError, ValueError, KeyError, TypeError) as error:
        why = clean(str(error), 300) or type(error).__name__
        return Verdict(name, "unknown", f"it cannot be told: {why}", "look at the host: recon status")


def _one_producer(machine: Machine, spec: Spec) -> str:
    producers = [unit for unit in spec["units"] if unit["producer"]]
    if len(producers) != 1:
        names = ", ".join(unit["name"] for unit in producers) or "none"
        fix = f"give exactly one unit 'producer: true' in {_FILE}"
        raise _BrokenError(f"{len(producers)} units feed the queue ({names}), and exactly one must", fix)
    one = producers[0]
    others = _who_else(machine, one["argv"], one["image"])
    if others:
        raise _BrokenError(f"somebody else runs {one['name']}: {_some(others)}", "end it on the host, for good")
    return f"{one['name']} alone feeds the queue"


def _who_else(machine: Machine, argv: List[str], image: Optional[str]) -> List[str]:
    """Return who runs a producer outside of our units: its words, or its image when it is a container."""
    return rivals.of_image(machine, image) if image else rivals.running(machine, argv)


def _no_producer(machine: Machine, spec: Spec) -> str:
    share = spec["share"]
    producers = [unit["name"] for unit in spec["units"] if unit["producer"]]
    if producers:
        fix = f"write 'where: hub' in {_FILE}"
        raise _BrokenError(f"{', '.join(producers)} would feed the queue beside the hub, {share['hub']}", fix)
    others = _who_else(machine, share["producer"], share.get("producer_image"))
    if others:
        text = f"somebody runs the producer of {share['hub']} here: {_some(others)}"
        raise _BrokenError(text, "end it on the host, for good")
    return f"the hub, {share['hub']}, alone feeds the queue"


def _on_the_hub(_machine: Machine, spec: Spec) -> str:
    return f"on the hub, {spec['share']['hub']}"


def _claim_safe(machine: Machine, spec: Spec) -> str:
    share = spec["share"]
    found = share_of.marker(machine, share)
    if found.state == share_of.THERE:
        return f"{found.text}: two hosts never claim the same job"
    if found.state == share_of.MISSING:
        fix = f"when claiming is safe between hosts, on {share['hub']}: touch {share['marker']}"
        raise _BrokenError(f"{found.text}: nobody has said that two hosts never claim the same job", fix)
    fix = f"systemctl status {share['unit']}; mount first: write 'enabled: false', then recon apply"
    raise _UnknownError(found.text, fix)


def _one_authority(machine: Machine, spec: Spec) -> str:
    guardians = [unit["name"] for unit in spec["units"] if unit["guards"]]
    if len(guardians) > 1:
        fix = f"keep 'guards: hangs' on one unit in {_FILE}"
        raise _BrokenError(f"{len(guardians)} guardians restart what hangs: {', '.join(guardians)}", fix)
    foreign = rivals.units(machine, spec["authorities"])
    if foreign:
        names = " ".join(each.split(" ", 1)[0] for each in foreign[:6])
        raise _BrokenError(f"units of somebody else are there: {_some(foreign)}", f"systemctl disable --now {names}")
    images = [unit["image"] for unit in spec["units"] if unit["image"] is not None]
    restarted = rivals.containers(machine, spec["root"], images)
    if restarted:
        fix = "podman update --restart=no NAME, or remove the container"
        raise _BrokenError(f"podman restarts beside systemd: {_some(restarted)}", fix)
    for unit in spec["units"]:
        others = rivals.running(machine, unit["argv"]) if unit["image"] is None and not unit["producer"] else []
        if others:
            raise _BrokenError(f"somebody else runs {unit['name']}: {_some(others)}", "end it on the host, for good")
    return "systemd alone restarts each unit" + (f", {guardians[0]} what hangs" if guardians else "")


def _backoff(machine: Machine, spec: Spec) -> str:
    for name, shown in _loaded(machine, spec).items():
        wrong = [
            text
            for text, is_wrong in (
                (f"Restart={shown.get('Restart')}", shown.get("Restart") != "on-failure"),
                (f"StartLimitBurst={shown.get('StartLimitBurst')}", not 0 < _number(shown, "StartLimitBurst") <= 100),
                ("StartLimitIntervalSec=0", shown.get("StartLimitIntervalUSec") in (None, "", "0", "infinity")),
            )
            if is_wrong
        ]
        if wrong:
            raise _BrokenError(f"{name} has {', '.join(wrong)}{_by(shown)}", _undo(name, shown))
    return "every unit gives up after a few crashes"


def _caps(machine: Machine, spec: Spec) -> str:
    for unit in spec["units"]:
        missing = [key for key, value in (("memory", unit["memory_max"]), ("tasks", unit["tasks_max"])) if not value]
        if missing:
            fix = f"add 'limits: {{{', '.join(f'{key}: …' for key in missing)}}}' to it in {_FILE}"
            raise _BrokenError(f"{unit['name']} has no cap of {' and '.join(missing)}", fix)
    wanted = {unit["unit"]: unit for unit in spec["units"]}
    before = _committed(machine) if spec.get("planned") else {}
    for name, shown in _loaded(machine, spec).items():
        for key, declared in (("MemoryMax", "memory_max"), ("TasksMax", "tasks_max")):
            value = wanted[name][declared]
            # Until the commit systemd goes by what is committed now: only what differs from that too is overridden.
            if _number(shown, key) not in (value, before.get(name, wanted[name])[declared]):
                raise _BrokenError(
                    f"{name} has {key}={clean(str(shown.get(key)), 40)}, {value} is declared{_by(shown)}",
                    _undo(name, shown),
                )
    return "every unit has memory and task caps"


def _reaper(machine: Machine, spec: Spec) -> str:
    reaper = spec["reaper"]
    budgets = [reaper[key] for key in ("keep_bytes", "keep_age_s", "keep_count")] if reaper else []
    if not reaper or all(budget is None for budget in budgets):
        fix = f"add 'reaper: {{paths: […], keep: {{bytes: 200GiB}}}}' to {_FILE}"
        raise _BrokenError("nothing deletes what the loop makes", fix)
    for path in reaper["paths"]:
        _reachable(machine, path)
    return f"a budget over {', '.join(reaper['paths'])}"


def _reachable(machine: Machine, path: str) -> None:
    """Go to a directory of the reaper as the reaper does, which follows no link on the way."""
    _no_link(machine, path, f"{path} of the reaper", "reaper.paths")
    fix = f"make the directory {path} on the host"
    try:
        machine.open_directory(path).close()
    except FileNotFoundError as error:
        raise _BrokenError(f"{path} of the reaper is not there", fix) from error
    except NotADirectoryError as error:
        raise _BrokenError(f"{path} of the reaper is no directory", fix) from error


def _no_link(machine: Machine, path: str, what: str, where: str) -> None:
    """Break when a path is a link or leads through one: what is below it is looked at, and never touched."""
    parts = path.split("/")
    for depth in range(2, len(parts) + 1):
        place = "/".join(parts[:depth])
        found = machine.stat(place)
        if found is None:
            return
        if found.kind == "link":
            leads = clean(machine.read_link(place), 200)
            fix = f"have {where} in {_FILE} name where it really lies ({place} leads to {leads})"
            raise _BrokenError(f"{what} is reached through the link {place}, and no link is followed", fix)


def _convergence(_machine: Machine, spec: Spec) -> str:
    if not spec["convergence"]:
        fix = f"add 'convergence: {{file: …, key: converged}}' to {_FILE}"
        raise _BrokenError("nothing says when the loop has arrived, so it would never stop", fix)
    return f"its producers stop by {spec['convergence']['key']} of {spec['convergence']['file']}"


def _rate_caps(machine: Machine, spec: Spec) -> str:
    control, declared = spec["control"], spec["caps"]
    if not control:
        fix = f"add 'control: {{file: …, keys: {{…}}}}' to {_FILE}"
        raise _BrokenError("no control file is declared to write rate caps into", fix)
    missing = sorted(set(control["keys"]) - set(declared))
    if missing:
        fix = f"add 'rate_caps: {{{', '.join(f'{name}: …' for name in missing)}}}' to 'spiral' of the host's file"
        raise _BrokenError(f"this host sets no {', '.join(missing)}", fix)
    _control_file(machine, spec)
    return ", ".join(f"{name} {declared[name]}" for name in sorted(declared))


def _control_file(machine: Machine, spec: Spec) -> None:
    """Look at the control file as whoever writes the caps does, for what he refuses holds nothing."""
    path = spec["control"]["file"]
    what, fix = f"the control file {path}", f"put a JSON object there: echo '{{}}' > {path}"
    _no_link(machine, path, what, "root and control.file")
    try:
        caps.check(machine, spec)
    except FileNotFoundError as error:
        raise _BrokenError(f"{what} is not there", fix) from error
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise _BrokenError(f"{what}: {caps.why(error)}", fix) from error


def _loaded(machine: Machine, spec: Spec) -> Dict[str, Dict[str, str]]:
    """Return what systemd goes by for each unit that it has; of the others, what is declared is all there is."""
    names = [unit["unit"] for unit in spec["units"]]
    shown = systemd.show(machine, names, _SHOWN) if names else {}
    there = {name: each for name, each in shown.items() if each.get("LoadState") != "not-found"}
    if spec.get("planned"):  # a file that differs is replaced by the commit; what lies beside it is not
        return {name: each for name, each in there.items() if each.get("DropInPaths")}
    return there


def _committed(machine: Machine) -> Dict[str, Spec]:
    """Return the units of the committed spiral by name; none when nothing is committed."""
    number = files.committed_number(machine)
    spiral = None if number is None else files.manifest(machine, number).get("spiral")
    return {unit["unit"]: unit for unit in spiral["units"]} if spiral else {}


def _number(shown: Dict[str, str], key: str) -> int:
    text = shown.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else -1


def _by(shown: Dict[str, str]) -> str:
    paths = clean(shown.get("DropInPaths", ""), 200)
    return f", by {paths}" if paths else ""


def _undo(name: str, shown: Dict[str, str]) -> str:
    drop_ins = [clean(path, 200) for path in shown.get("DropInPaths", "").split()]
    if not drop_ins:
        return "recon apply, after 'recon plan' shows the file"
    # What a package ships, or what is for many units, is nothing that a revert of this one takes away.
    if all(f"/{name}.d/" in path and not path.startswith(("/usr/", "/lib/")) for path in drop_ins):
        return f"systemctl revert {name}"
    return f"see what overrides it: systemctl cat {name}"


def _some(names: List[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


_CHECKS: Dict[str, Callable[[Machine, Spec], str]] = {
    "one-producer": _one_producer,
    "one-authority": _one_authority,
    "backoff": _backoff,
    "caps": _caps,
    "reaper": _reaper,
    "convergence": _convergence,
    "rate-caps": _rate_caps,
}
_ON_WORKERS: Dict[str, Callable[[Machine, Spec], str]] = {
    "one-producer": _no_producer,
    "reaper": _on_the_hub,
    "convergence": _on_the_hub,
    "rate-caps": _on_the_hub,
    "claim-safe": _claim_safe,
}

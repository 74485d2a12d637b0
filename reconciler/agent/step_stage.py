"""Stage: write the next generation beside the committed one and check all of it before anybody is disturbed.

What can fail without disturbing anyone is done here: images, paths, space, memory figures, the host's own generator,
systemd's own reading. The undo record is durable before the first file of somebody's working state is replaced.

Must not: load, start or stop anything.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List

from . import (
    files,
    generator,
    history,
    keep,
    lease,
    leftover,
    places,
    share,
    share_deeds,
    spiral,
    step_stop,
    step_undo,
    systemd,
    takeover,
    watch_timer,
)
from .journal import boot_id
from .machine import Machine
from .plain import clean
from .preflight import check_before
from .record import RecordError, read_record, set_aside, write_record
from .target import described
from .txn import HaltError, Run, stopping

UNITS_DIRECTORY = "units"
BOOT_DIRECTORY = "boot.wants"
MANIFEST = "manifest.json"
WANTED_BY = places.NATIVE + "/multi-user.target.wants/" + places.BOOT_TARGET
BOOT_WANTS = places.NATIVE + "/" + places.BOOT_TARGET + ".wants"
_LINKS = {
    WANTED_BY: places.NATIVE + "/" + places.BOOT_TARGET,
    BOOT_WANTS: places.COMMITTED + "/" + BOOT_DIRECTORY,
}


def stage(run: Run) -> None:
    """Write and check generation n+1; on any failure nothing of it is left."""
    with run.step("stage", "writing and checking the new generation"):
        try:
            leftover.collect(run.machine, run.txid)
            check_before(run)
            keep.hold(run, _to_stop(run))
            run.new_generation = next_generation(run)
            _write_generation(run)
            _check_generated(run)
            _replace_natives(run)
        except HaltError as halt:
            halt.state = halt.state or "refused"
            step_undo.unstage(run)
            raise
        except Exception:
            # The disk may be full: what can be taken back is, and the first error is the one that is told.
            with contextlib.suppress(OSError):
                step_undo.unstage(run)
            raise


def _to_stop(run: Run) -> List[Dict[str, Any]]:
    """Return every member that this transaction stops and a way back would start, as far as anybody knows it."""
    beside = [*run.intent["stop_units"], *run.intent["restart_residents"]]
    members = [member for move in run.intent["moves"] for member in stopping(move)]
    return members + step_stop.committed_members(run, beside)


def is_nothing_to_do(run: Run) -> bool:
    """Say whether the host is already what the intent says, down to what boots."""
    intent = run.intent
    if intent["moves"] or intent["restart_residents"] or intent["stop_units"] or intent["remove_natives"]:
        return False
    if run.old_generation is None or run.machine.stat(places.TRIAL) is not None:
        return False  # a trial that was left over goes with the next commit
    try:
        manifest = files.manifest(run.machine, run.old_generation)
    except (OSError, ValueError):
        return False
    same = all(manifest.get(key) == value for key, value in described(intent).items())
    same = same and manifest.get("machine_id") in (None, machine_id(run.machine))
    stands = same and _on_disk(run) == _wanted_on_disk(intent) and _links_stand(run)
    return stands and watch_timer.is_as_wanted(run) and share_deeds.is_as_wanted(run) and spiral.is_as_wanted(run)


def machine_id(machine: Machine) -> str:
    """Return which machine this is."""
    return clean(machine.read("/etc/machine-id", 64))


def next_generation(run: Run) -> int:
    """Return a number that no generation ever had here, and remember it, so that none has it again."""
    machine = run.machine
    numbers = [*lease.generations(machine), run.old_generation or 0]
    try:
        numbers.append(int(read_record(machine, places.LAST_GENERATION)["generation"]))
    except FileNotFoundError:
        pass
    except (RecordError, KeyError, TypeError, ValueError):
        run.note(
            f"what {places.LAST_GENERATION} said is not believed; kept as {set_aside(machine, places.LAST_GENERATION)}"
        )
    # Asked too, for that file may have been lost or restored: the history says what was committed.
    numbers += [line["committed"] for line in history.recent(machine) if isinstance(line.get("committed"), int)]
    number = max(numbers) + 1
    write_record(machine, places.LAST_GENERATION, {"generation": number})
    return number


def quadlet_units(run: Run, number: int) -> List[str]:
    """Return the services that a generation's quadlets become."""
    names = _listdir(run, places.generation(number))
    return [places.unit_of(name) for name in names if name.endswith(".container")]


def _write_generation(run: Run) -> None:
    machine, intent, directory = run.machine, run.intent, run.directory
    for part in (directory, f"{directory}/{UNITS_DIRECTORY}", f"{directory}/{BOOT_DIRECTORY}"):
        machine.mkdir(part)
    for file in intent["quadlets"]:
        machine.write(f"{directory}/{file['name']}", file["content"].encode("utf-8"))
    for file in intent["natives"]:
        machine.write(f"{directory}/{UNITS_DIRECTORY}/{file['name']}", file["content"].encode("utf-8"))
    for target in intent["boot"]:
        machine.symlink(f"{places.NATIVE}/{target}", f"{directory}/{BOOT_DIRECTORY}/{target}")
    takeover.name_in_generation(run)
    body: Dict[str, Any] = {
        "generation": run.new_generation,
        # What a way back by hand goes to: the one committed now, not the one with the next lower number.
        "previous": run.old_generation,
        "txid": intent["txid"],
        "fleet": intent["fleet"],
        "host": intent["host"],
        "owner": intent["owner"],
        "source_commit": intent["source_commit"],
        "plan_digest": intent["plan_digest"],
        "epoch": run.lease.epoch if run.lease else 0,
        # A disk that is copied takes this along, and where it is not so any more a plan is refused.
        "machine_id": machine_id(machine),
    }
    body.update(described(intent))
    # Last: a generation without its manifest is not one.
    write_record(machine, f"{directory}/{MANIFEST}", body)


def _check_generated(run: Run) -> None:
    intent = run.intent
    members = [member for group in intent["groups"] for member in group["members"]] + list(intent["residents"])
    try:
        units = generator.generate(run.machine, run.directory)
    except generator.GeneratorError as error:
        raise HaltError("REC7125", str(error), fix="recon render --check") from error
    problems = generator.compare(units, members)
    if problems:
        text = "the host's quadlet generator makes something else than was reviewed: " + "; ".join(problems[:6])
        raise HaltError("REC7125", text, fix="recon render --check")
    natives = {file["name"]: file["content"] for file in intent["natives"]}
    problems = generator.verify(run.machine, units, natives, places.SCRATCH, away=share.away(intent.get("spiral")))
    if problems:
        raise HaltError("REC7126", "systemd finds fault with the new units: " + "; ".join(problems), fix="recon render")


def _replace_natives(run: Run) -> None:
    machine = run.machine
    changed = [file for file in run.intent["natives"] if _differs(run, file)]
    links = {path: target for path, target in _LINKS.items() if link_target(run, path) != target}
    masked = [path for path in (f"{places.NATIVE}/{file['name']}" for file in changed) if _is_link(run, path)]
    names = [file["name"] for file in changed]
    undo: Dict[str, Any] = {
        "txid": run.txid,
        "generation": run.new_generation,
        "from": run.old_generation,
        "natives": {name: native_text(run, name) for name in [*names, *takeover.drop_ins(run)]},
        "links": {path: link_target(run, path) for path in [*links, *masked]},
        "boot_id": boot_id(run.machine),
        "ran": _invocations(run),
    }
    if run.adoptees:
        undo["adopted"] = takeover.recorded(run)
    write_record(machine, step_undo.record_path(run.txid), undo)
    for file in changed:
        machine.write(f"{places.NATIVE}/{file['name']}", file["content"].encode("utf-8"))
    for path, target in links.items():
        machine.mkdir(path.rsplit("/", 1)[0])
        machine.symlink(target, path)
    takeover.stage(run)


def _invocations(run: Run) -> Dict[str, str]:
    """Return which run of each old member serves now, so that a later one is not taken for it."""
    units = [member["unit"] for move in run.intent["moves"] for member in stopping(move)]
    units += run.intent["restart_residents"]
    shown = systemd.show_units(run.machine, units) if units else {}
    return {unit: state.invocation for unit, state in shown.items()}


def native_text(run: Run, name: str) -> "str | None":
    """Return a native unit as it stands, None when no file stands there (a link is put back as a link)."""
    path = f"{places.NATIVE}/{name}"
    if run.machine.stat(path) is None or _is_link(run, path):
        return None
    return run.machine.read(path).decode("utf-8", "surrogateescape")


def _is_link(run: Run, path: str) -> bool:
    found = run.machine.stat(path)
    return found is not None and found.kind == "link"


def _differs(run: Run, file: Dict[str, Any]) -> bool:
    """Say whether a native unit must be written: a new commit alone changes its header, and nothing that runs."""
    text = native_text(run, file["name"])
    if text is None:
        return True
    header = files.read_header(text.encode("utf-8", "surrogateescape"))
    return header.body_sha256 != file["body_sha256"] or header.owner != f"{run.intent['fleet']}/{run.intent['host']}"


def link_target(run: Run, path: str) -> "str | None":
    """Return where a link of ours points, None when there is none; HaltError when something else stands there."""
    found = run.machine.stat(path)
    if found is None:
        return None
    if found.kind != "link":
        raise HaltError(
            "REC7127", f"{path} is there and is no symlink of ours", fix=f"move {path} away", state="refused"
        )
    return run.machine.read_link(path)


def _listdir(run: Run, path: str) -> List[str]:
    try:
        return run.machine.listdir(path)
    except FileNotFoundError:
        return []


def _on_disk(run: Run) -> Dict[str, str]:
    """Return what lies on the disk: body digests by file name, of quadlets and natives."""
    found = known_files(run.state)
    return {path.rsplit("/", 1)[1]: digest for path, digest in found.items()}


def known_files(state: Dict[str, Any]) -> Dict[str, str]:
    """Return path and body digest of every managed file that was observed; none when that is unknown."""
    listed = state["files"].get("value", [])
    return {file["path"]: file["body_sha256"] for file in listed}


def _wanted_on_disk(intent: Dict[str, Any]) -> Dict[str, str]:
    return {file["name"]: file["body_sha256"] for file in [*intent["quadlets"], *intent["natives"]]}


def _links_stand(run: Run) -> bool:
    return all(link_target(run, path) == target for path, target in _LINKS.items())

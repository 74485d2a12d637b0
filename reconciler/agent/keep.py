"""Keeps the images on the host that a way back needs, whoever cleans up there.

A coven that does not run has no container, and `podman image prune --all` takes every image that no container uses. So
the image of what is about to be stopped is held by a podman volume made of it: nothing is copied, nothing runs, and
neither that command nor `podman system prune --all` takes it. It is held for as long as the committed generation, or
the one before it, runs it.

Must not: pull or remove an image, or keep a transition from going on.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any, Dict, List, Sequence, Set

from . import files, places
from .plain import clean
from .record import RecordError, make_way, read_record, write_record
from .txn import Run

_TIMEOUT_S = 120.0
_LOOK_S = 10.0
_NAME = "recon-keep-"
_LABEL = "io.recon.keep=1"


def hold(run: Run, members: Sequence[Dict[str, Any]]) -> None:
    """Hold the images of members that are about to be stopped; what cannot be held is told.

    What was held for a way back and was let go of by somebody else (`podman volume prune`) is held again.
    """
    recorded = _held(run)
    held = _still_held(run, recorded)
    new = sorted((recorded | {str(member["image"]) for member in members}) - held)
    for image in new:
        done = run.machine.run(
            ["podman", "volume", "create", "--ignore", *_options(image), volume_of(image)], _TIMEOUT_S
        )
        if done.rc == 0:
            held.add(image)
        else:
            run.note(f"{image} is not held: {clean(done.err, 200) or done.rc}; a clean-up could take the way back")
    if new:
        _write(run, held)


def let_go(run: Run) -> str:
    """Let go of images that neither the committed generation nor the one before runs; say what could not be done."""
    held = _held(run)
    gone = sorted(held - _needed(run, held)) if held else []
    problems = []
    for image in gone:
        done = run.machine.run(["podman", "volume", "rm", volume_of(image)], _TIMEOUT_S)
        if done.rc not in (0, 1):
            problems.append(f"{image} is still held: {clean(done.err, 200) or done.rc}")
    if gone:
        _write(run, held - set(gone))
    return "; ".join(problems)


def volume_of(image: str) -> str:
    """Return the name of the volume that holds an image."""
    return _NAME + hashlib.sha256(image.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _still_held(run: Run, recorded: Set[str]) -> Set[str]:
    """Return those images that podman has a volume of; all that are written down where it does not say."""
    if not recorded:
        return set()
    done = run.machine.run(["podman", "volume", "ls", "--quiet", f"--filter=label={_LABEL}"], _LOOK_S)
    if done.rc != 0:
        run.note(f"podman does not say which images are held: {clean(done.err, 200) or done.rc}")
        return recorded
    there = set(done.out.decode("utf-8", "replace").split())
    return {image for image in recorded if volume_of(image) in there}


def _options(image: str) -> List[str]:
    return ["--driver=image", f"--opt=image={image}", f"--label={_LABEL}"]


def _needed(run: Run, held: Set[str]) -> Set[str]:
    """Return the images of the committed generation and the one before; all that are held when one does not say."""
    numbers = [number for number in (run.old_generation, run.new_generation) if number is not None]
    try:
        bodies = [files.manifest(run.machine, number) for number in numbers]
        return {str(member["image"]) for body in bodies for member in files.live_members(body)}
    except (OSError, RecordError, KeyError):
        return held


def _held(run: Run) -> Set[str]:
    try:
        return {str(image) for image in read_record(run.machine, places.KEPT).get("images", ())}
    except FileNotFoundError:
        return set()
    except (OSError, RecordError):
        # Holding one a second time does no harm.
        return set()


def _write(run: Run, held: Set[str]) -> None:
    with contextlib.suppress(OSError):
        make_way(run.machine, places.KEPT)
        write_record(run.machine, places.KEPT, {"images": sorted(held)})

"""How a machine becomes a host: the checks, the account, the proof, the file.

The order is what makes it safe: what was asked for is checked before a connection, the host's key before a login, the
host before anything on it is changed, the new way in before anything is written here. So a run that ends early leaves
either nothing or parts on the host that it names, and the same command goes on from there.

Must not: ask a person or print; both come in as functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.enrolment.asked import Ears, Wish, candidate, check_wish, refuse_another, ssh_of
from reconciler.enrolment.host_key import key_to_pin
from reconciler.enrolment.proof import Way, and_left, fit, prove
from reconciler.enrolment.share import NewWorker, check_hub, new_worker, write_worker
from reconciler.errors import HostError, Problem, UsageError
from reconciler.load import host_file
from reconciler.load.fleet import load_defaults, load_fleet
from reconciler.model.desired import Defaults, Fleet, Ssh
from reconciler.model.observed import Known
from reconciler.model.survey import Survey
from reconciler.planner.checkup import capacity_of

if TYPE_CHECKING:
    from reconciler.hosts.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How it ended: the file, whether it was written now, and what was made on the host or would be."""

    file: str
    text: str
    written: bool
    done: tuple[str, ...]
    kept: tuple[str, ...]
    worker: NewWorker | None = None
    """What git says, or should say, about its share."""


def enroll(root: Path, wish: Wish, ears: Ears, *, bundle: Bundle | None = None) -> Enrolment:
    """Make a machine a host: all of `recon enroll`; `bundle` is the agent, of this installation when None.

    Raises:
        UsageError, RefusedError: what was asked for cannot be; nothing was changed.
        HostError: the host could not be asked, or ended in the middle; the message says what was done there.
    """
    fleet, defaults = load_fleet(root, may_be_empty=True), load_defaults(root)
    check_wish(wish)
    ssh = ssh_of(wish, defaults)
    refuse_another(fleet, wish, ssh)
    if wish.share is not None:
        worker = new_worker(root, fleet, wish.name, wish.share)
        ears.on_step(check_hub(root, fleet, wish.share))
        ended = _enroll(root, fleet, defaults, wish, ears, ssh, bundle)
        written = not wish.check and write_worker(root, worker, wish.name)
        return replace(ended, worker=replace(worker, text=worker.text if written or wish.check else None))
    return _enroll(root, fleet, defaults, wish, ears, ssh, bundle)


def _enroll(
    root: Path, fleet: Fleet, defaults: Defaults, wish: Wish, ears: Ears, ssh: Ssh, bundle: Bundle | None
) -> Enrolment:
    if fleet.transport == "sim":
        return _in_simulation(root, fleet, defaults, wish, ears)
    from reconciler.hosts.bundle import agent_bundle
    from reconciler.hosts.connect import target_of
    from reconciler.hosts.ssh import SshRun

    run = SshRun(bundle or agent_bundle())
    try:
        pinned = fleet.hosts[wish.name].host_key if wish.name in fleet.hosts else None
        host = candidate(wish, ssh.model_copy(update={"user": wish.ssh_user}), defaults, pinned)
        target = target_of(host, root)
        key = key_to_pin(run, target, wish, ears)
        target = replace(target, host_key=str(key))
        return _over_ssh(root, fleet, defaults, wish, ears, Way(run, target, ssh, key))
    finally:
        run.close()


def _over_ssh(root: Path, fleet: Fleet, defaults: Defaults, wish: Wish, ears: Ears, way: Way) -> Enrolment:
    from reconciler.apply.enroll import enroll as hand_over

    place = way.target.place
    transport = way.run.transport(way.target)
    try:
        text = f"{place.user}@{place.address}, port {place.port}; {way.key.fingerprint}"
        survey = fit(fleet, defaults, wish, ears, transport, way=text)
        public = f"{way.run.public_key(way.target)} recon {fleet.name}" if wish.user else None
        made = hand_over(wish.name, transport, user=wish.user, key=public, check=wish.check)
    finally:
        transport.close()
    if made.problem:
        said = made.problem
        fix = said.fix or "correct that on the host, then type the same command again"
        raise HostError(Problem(said.code, said.summary, and_left(said.detail, made.done), fix))
    if not wish.check:
        for part in made.done:
            ears.on_step(f"made on the host: {part}")
        prove(wish, way, survey, made.done)
        who = "as root" if wish.scope == "system" else "in its own manager, without root"
        ears.on_step(f"proven: {way.ssh.user} logs in and the agent runs {who}")
    return _written(root, wish, defaults, way.ssh, survey, str(way.key), made.done, made.kept)


def _in_simulation(root: Path, fleet: Fleet, defaults: Defaults, wish: Wish, ears: Ears) -> Enrolment:
    """Enroll a simulated host: it has no SSH, so no key to pin and no account to make."""
    from reconciler.apply.enroll import enroll as hand_over
    from reconciler.hosts.connect import connector

    if wish.scope == "user":
        raise UsageError(Problem("REC7018", "a simulated host has no accounts", "", "leave out --scope"))
    if wish.user is not None:
        raise UsageError(Problem("REC7018", "a simulated host has no accounts", "", "leave out --user"))
    connect = connector(fleet, root)
    transport = connect(candidate(wish, defaults.ssh, defaults, None))
    try:
        survey = fit(fleet, defaults, wish, ears, transport, way="simulated")
        made = hand_over(wish.name, transport, user=None, key=None, check=wish.check)
    finally:
        transport.close()
        connect.close()
    return _written(root, wish, defaults, defaults.ssh, survey, None, made.done, made.kept)


def _written(
    root: Path,
    wish: Wish,
    defaults: Defaults,
    ssh: Ssh,
    survey: Survey,
    host_key: str | None,
    done: tuple[str, ...],
    kept: tuple[str, ...],
) -> Enrolment:
    file = host_file.path_of(wish.name)
    memory = survey.memory_class.value if isinstance(survey.memory_class, Known) else None
    names = sorted({gpu.name for gpu in survey.gpus.value}) if isinstance(survey.gpus, Known) else []
    number = len(survey.gpus.value) if isinstance(survey.gpus, Known) else 0
    gpus = f"{number} x {', '.join(names)}" if number > 1 else ", ".join(names) or "GPUs not known"
    seen = host_file.Seen(wish.name, wish.address, host_key, ssh, gpus, memory, capacity_of(survey), wish.scope)
    text = host_file.host_text(seen, defaults.ssh, host_file.schema_of(root))
    host_file.checked(text)
    is_there = (root / file).exists()
    if not wish.check and not is_there:
        host_file.write_new(root, wish.name, text)
    return Enrolment(file, text, written=not wish.check and not is_there, done=done, kept=kept)

"""`recon enroll --share`: the hub is asked first, and without its marker nothing is changed anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.cli.app import run
from reconciler.enrolment import enrol
from reconciler.enrolment.share import check_hub, is_safe
from reconciler.errors import RefusedError
from reconciler.load.fleet import load_fleet
from reconciler.model.desired import Fleet
from reconciler.model.spiral_state import ShareState
from reconciler.sim.deeds import perform
from reconciler.sim.state import Node
from tests.scenarios.sim_world import SimWorld

ROOT = "/srv/spiral"
LOOP = """# the loop
root: /srv/spiral
user: spiral
units:
  feed: {argv: [/bin/feed], lane: cpu, producer: true}
  work: {argv: [/bin/work], lane: cpu, where: workers} # claims
shares:
  motion: {hub: h-1} # has the disk
"""
NEW = ("enroll", "192.0.2.40", "--name", "spark-9", "--share", "motion")


@dataclass
class Bed:
    world: SimWorld
    said: Callable[..., tuple[int, str, str]]

    @property
    def loop(self) -> Path:
        return self.world.root / "desired/workloads/spiral.yaml"

    @property
    def file(self) -> Path:
        return self.world.root / "desired/hosts/spark-9.yaml"

    def put(self, host: str, path: str) -> None:
        with self.world.fleet.open(host) as machine:
            machine.files.make_dirs(path.rpartition("/")[0])
            machine.files.put(path, Node.of(b""))

    def is_enrolled(self) -> bool:
        with self.world.fleet.open("spark-9") as machine:
            return machine.stat("/var/lib/recon") is not None


@pytest.fixture
def bed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bed:
    world = SimWorld(tmp_path)
    (tmp_path / "desired/workloads").mkdir()
    (tmp_path / "desired/workloads/spiral.yaml").write_text(LOOP)

    def said(*argv: str) -> tuple[int, str, str]:
        code = run(["-C", str(tmp_path), *argv])
        told = capsys.readouterr()
        return code, told.out, told.err

    return Bed(world, said)


def test_without_the_marker_on_the_hub_nothing_is_changed_anywhere(bed: Bed) -> None:
    bed.put("spark-9", "/usr/sbin/mount.nfs4")
    bed.put("h-1", f"{ROOT}/other")

    code, _, told = bed.said(*NEW)

    assert code == 3
    assert "error[REC7483]: nobody has said that claiming from share motion is safe" in told
    assert "a person's word that two hosts never claim the same job" in " ".join(told.split())
    assert "on h-1: touch /srv/spiral/CLAIM_SAFE" in told
    assert (bed.loop.read_text(), bed.file.exists(), bed.is_enrolled()) == (LOOP, False, False)


def test_a_hub_that_does_not_answer_is_exit_8_and_nothing_is_changed(bed: Bed) -> None:
    perform(bed.world.fleet, "h-1", "down", [])

    code, _, told = bed.said(*NEW)

    assert (code, "the hub of the share did not answer" in told) == (8, True)
    assert (bed.loop.read_text(), bed.file.exists(), bed.is_enrolled()) == (LOOP, False, False)


def test_a_host_without_nfs_is_not_fit(bed: Bed) -> None:
    bed.put("h-1", f"{ROOT}/CLAIM_SAFE")

    code, out, told = bed.said(*NEW)

    assert (code, "error[REC7427]" in told) == (3, True)
    assert "nfs" in told
    assert "apt install nfs-common" in out
    assert (bed.loop.read_text(), bed.file.exists(), bed.is_enrolled()) == (LOOP, False, False)


def test_a_worker_is_checked_enrolled_and_added_and_comments_stay(bed: Bed) -> None:
    bed.put("h-1", f"{ROOT}/CLAIM_SAFE")
    bed.put("spark-9", "/usr/sbin/mount.nfs4")
    edited = LOOP.replace("{hub: h-1}", "{hub: h-1, workers: [spark-9]}")

    code, out, _ = bed.said(*NEW, "--check")
    assert (code, "would write into desired/workloads/spiral.yaml: shares.motion.workers: [spark-9]" in out) == (
        0,
        True,
    )
    assert (bed.loop.read_text(), bed.file.exists()) == (LOOP, False)

    code, out, told = bed.said(*NEW)
    assert code == 0, told
    assert "/srv/spiral/CLAIM_SAFE is there on the hub, h-1" in told
    assert "wrote shares.motion.workers: [spark-9]" in out
    assert bed.loop.read_text() == edited
    share = load_fleet(bed.world.root).hosts["spark-9"].share
    assert share is not None
    assert (share.role, share.hub) == ("worker", "h-1")

    code, out, _ = bed.said(*NEW)
    assert (code, "kept shares.motion.workers: [spark-9]" in out) == (0, True)
    assert bed.loop.read_text() == edited


def test_what_others_wrote_into_the_file_while_a_worker_was_enrolled_stays(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.put("h-1", f"{ROOT}/CLAIM_SAFE")
    bed.put("spark-9", "/usr/sbin/mount.nfs4")
    meanwhile = LOOP.replace("{hub: h-1}", "{hub: h-1, workers: [h-2]}")
    real = check_hub

    def looked(root: Path, fleet: Fleet, share: str) -> str:
        said = real(root, fleet, share)
        bed.loop.write_text(meanwhile)
        return said

    monkeypatch.setattr(enrol, "check_hub", looked)

    code, _, told = bed.said(*NEW)

    assert code == 0, told
    assert bed.loop.read_text() == meanwhile.replace("[h-2]", "[h-2, spark-9]")


def test_a_share_that_went_while_a_worker_was_enrolled_is_not_written_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.put("h-1", f"{ROOT}/CLAIM_SAFE")
    bed.put("spark-9", "/usr/sbin/mount.nfs4")
    without = LOOP.partition("shares:")[0]
    real = check_hub

    def looked(root: Path, fleet: Fleet, share: str) -> str:
        said = real(root, fleet, share)
        bed.loop.write_text(without)
        return said

    monkeypatch.setattr(enrol, "check_hub", looked)

    code, _, told = bed.said(*NEW)

    assert (code, "write this into desired/workloads/spiral.yaml" in told) == (0, True)
    assert bed.loop.read_text() == without


def test_a_file_that_cannot_be_edited_is_left_and_the_line_is_told(bed: Bed) -> None:
    bed.put("h-1", f"{ROOT}/CLAIM_SAFE")
    bed.put("spark-9", "/usr/sbin/mount.nfs4")
    odd = LOOP.replace("{hub: h-1}", "{'hub': \"h-1\"}")
    bed.loop.write_text(odd)

    code, _, told = bed.said(*NEW)

    assert code == 0
    assert "write this into desired/workloads/spiral.yaml" in told
    assert "shares.motion.workers: [spark-9]" in told
    assert (bed.loop.read_text(), bed.file.exists()) == (odd, True)


def test_a_share_that_there_is_not_and_a_host_that_is_its_hub_are_refused_before_anything_is_asked(bed: Bed) -> None:
    code, _, told = bed.said("enroll", "192.0.2.40", "--name", "spark-9", "--share", "motoin")
    assert (code, "error[REC7485]" in told, "--share motion" in told) == (64, True, True)

    address = load_fleet(bed.world.root).hosts["h-1"].address
    code, _, told = bed.said("enroll", address, "--name", "h-1", "--share", "motion")
    assert (code, "h-1 is the hub of share motion" in told) == (3, True)


def test_a_hub_that_cannot_tell_is_not_a_hub_that_said_yes() -> None:
    told = {"foreign": "", "lacks": "", "mounted": None, "unexported": (), "unread": ""}
    state = ShareState.model_validate(
        {**told, "marker": "unknown", "text": "/srv/spiral/CLAIM_SAFE: Stale file handle"}
    )

    with pytest.raises(RefusedError) as caught:
        is_safe("motion", "h-1", "/srv/spiral/CLAIM_SAFE", state)

    (problem,) = caught.value.problems
    assert (problem.code, problem.detail) == ("REC7484", "/srv/spiral/CLAIM_SAFE: Stale file handle")
    assert problem.fix == "recon status --host h-1"

"""What a host says of its share: what is mounted and exported, the marker, and who else has the place of the mount."""

from __future__ import annotations

import errno
import json
import threading
from typing import Any

import pytest

from reconciler.agent import files, guardrails, share
from reconciler.agent.machine import Completed, Stat
from reconciler.model.spiral_state import ShareState
from tests.agent.fakehost import Denied, FakeHost

ROOT = "/srv/spiral"
SOURCE = "192.0.2.10:/srv/spiral"
WORKER: dict[str, Any] = {
    "name": "motion",
    "role": "worker",
    "hub": "gh-1",
    "marker": f"{ROOT}/CLAIM_SAFE",
    "unit": "recon-share-motion.target",
    "mount": "srv-spiral.mount",
    "source": SOURCE,
    "exports": {},
    "producer": ["/srv/spiral/saturate"],
}
HUB: dict[str, Any] = {
    **WORKER,
    "role": "hub",
    "unit": "",
    "mount": "",
    "source": "",
    "exports": {"recon-share-motion-a.service": "192.0.2.11", "recon-share-motion-b.service": "b.example.net"},
    "producer": [],
}
OWN = "/etc/systemd/system/srv-spiral.mount"
OURS = "# Managed by recon: change desired/ in git, then run recon apply.\n# recon-owner: studio/spark-2\n[Mount]\n"
HELPER: dict[str, bytes | str] = {"/usr/sbin/mount.nfs4": b"x"}


def mounts(*lines: tuple[str, str]) -> dict[str, bytes | str]:
    rows = ["22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"]
    rows += [f"{n} 22 0:5{n} / {at} rw,nosuid shared:9 - nfs4 {what} rw,hard" for n, (what, at) in enumerate(lines)]
    return {share.MOUNTS: "\n".join(rows) + "\n"}


def a_worker(*lines: tuple[str, str], **more: bytes | str) -> FakeHost:
    return FakeHost({**mounts(*lines), **HELPER, **more})


MOUNTED = (SOURCE, ROOT)


def test_the_mount_on_top_is_what_is_mounted_and_escapes_of_the_kernel_are_undone() -> None:
    host = a_worker(("nas:/old", ROOT), MOUNTED, ("nas:/my\\040data", "/srv/my\\040data"))

    assert share.mounted(host, ROOT) == SOURCE
    assert share.mounted(host, "/srv/my data") == "nas:/my data"
    assert share.mounted(host, "/srv") is None


def test_the_marker_is_looked_for_only_through_the_mount_of_the_hub() -> None:
    marker = {f"{ROOT}/CLAIM_SAFE": b""}

    there, missing = a_worker(MOUNTED, **marker), a_worker(MOUNTED)
    local, other = a_worker(**marker), a_worker(("nas:/x", ROOT), **marker)

    assert share.marker(there, WORKER) == ("there", "/srv/spiral/CLAIM_SAFE is there")
    assert share.marker(missing, WORKER) == ("missing", "/srv/spiral/CLAIM_SAFE is not there")
    assert share.marker(local, WORKER) == ("unknown", "/srv/spiral is not mounted from gh-1")
    assert share.marker(other, WORKER) == (
        "unknown",
        "nas:/x is mounted at /srv/spiral, not 192.0.2.10:/srv/spiral",
    )


def test_on_the_hub_the_marker_lies_on_its_own_disk() -> None:
    assert share.marker(FakeHost({f"{ROOT}/CLAIM_SAFE": b""}), HUB).state == "there"
    assert share.marker(FakeHost({f"{ROOT}/work": b""}), HUB).state == "missing"


class HungHost(FakeHost):
    """A worker whose hub does not answer: whoever asks for a file below the mount waits."""

    def __init__(self) -> None:
        super().__init__({**mounts(MOUNTED), **HELPER})
        self.ends = threading.Event()

    def stat(self, path: str) -> Stat | None:
        if path.startswith(ROOT):
            self.ends.wait()
        return super().stat(path)


def test_a_hub_that_does_not_answer_makes_the_marker_unknown_and_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "MARKER_S", 0.05)
    host = HungHost()
    try:
        found = share.marker(host, WORKER)
    finally:
        host.ends.set()

    assert found == (
        "unknown",
        "/srv/spiral/CLAIM_SAFE does not answer: gh-1 is away, or its file server hangs",
    )


class StaleHost(FakeHost):
    def stat(self, path: str) -> Stat | None:
        if path.startswith(ROOT):
            raise OSError(errno.ESTALE, "Stale file handle", path)
        return super().stat(path)


def test_a_stale_mount_is_not_a_missing_marker() -> None:
    found = share.marker(StaleHost({**mounts(MOUNTED)}), WORKER)

    assert found.state == "unknown"
    assert "Stale file handle" in found.text


@pytest.mark.parametrize(
    ("more", "line", "text"),
    [
        ({OWN: "[Mount]\nWhat=x\n"}, None, f"{OWN} is a unit of somebody else"),
        (
            {OWN: OURS, "/run/systemd/system/srv-spiral.mount": "[Mount]\n"},
            MOUNTED,
            "/run/systemd/system/srv-spiral.mount is a unit of somebody else",
        ),
        ({share.FSTAB: f"# {ROOT}\nnas:/x {ROOT}/ nfs ro 0 0\n"}, None, "/etc/fstab mounts nas:/x at /srv/spiral"),
        ({}, ("nas:/x", ROOT), "nas:/x is mounted at /srv/spiral"),
        ({}, None, ""),
        ({OWN: OURS}, MOUNTED, ""),
        ({OWN: OURS}, ("192.0.2.9:/srv/spiral", ROOT), ""),
        ({share.FSTAB: f"#nas:/x {ROOT} nfs ro 0 0\nnas:/x {ROOT}/deeper nfs ro 0 0\n"}, None, ""),
    ],
    ids=["unit", "runtime unit", "fstab", "mount", "nobody", "ours", "ours, before another hub", "only deeper"],
)
def test_who_else_has_the_place_of_the_mount_is_named(
    more: dict[str, bytes | str], line: tuple[str, str] | None, text: str
) -> None:
    host = a_worker(*((line,) if line else ()), **more)

    assert share.foreign(host, WORKER) == text


def test_a_mount_unit_is_recons_by_its_header_alone() -> None:
    host = FakeHost({OWN: OURS, "/etc/systemd/system/data.mount": "[Mount]\n", "/etc/systemd/system/x.service": OURS})

    assert [file["path"] for file in files.managed_files(host)] == [OWN]


def test_an_address_that_the_table_lacks_is_exported_no_more_and_a_name_may_stand_there_as_another() -> None:
    table = "/srv/other\t192.0.2.11(rw)\n/srv/spiral\tcanonical.example.net(rw,sync)\n"

    assert share.exported(FakeHost({share.EXPORTS: table}), ROOT) == ["canonical.example.net"]
    assert share.unexported(FakeHost({share.EXPORTS: table}), HUB) == ["recon-share-motion-a.service"]
    assert share.unexported(FakeHost({share.EXPORTS: f"{ROOT}\t192.0.2.11(rw)\n"}), HUB) == []
    assert share.unexported(FakeHost(), HUB) == ["recon-share-motion-a.service"]


@pytest.mark.parametrize("address", ["2001:DB8::12", "2001:db8:0:0::12"])
def test_an_address_of_ipv6_is_in_the_table_however_it_is_written(address: str) -> None:
    hub = {**HUB, "exports": {"recon-share-motion-a.service": address}}

    assert share.unexported(FakeHost({share.EXPORTS: f"{ROOT}\t2001:db8::12(rw)\n"}), hub) == []
    assert share.unexported(FakeHost({share.EXPORTS: f"{ROOT}\t2001:db8::13(rw)\n"}), hub) == [*hub["exports"]]


def test_a_worker_without_mount_nfs4_and_a_hub_without_exportfs_say_what_to_install() -> None:
    assert share.lacks(FakeHost(HELPER), "worker") == ""
    assert share.lacks(FakeHost(), "worker") == "/usr/sbin/mount.nfs4 is not there: apt install nfs-common"
    exportfs = FakeHost({"/usr/sbin/exportfs": b"x"})
    assert share.lacks(exportfs, "hub") == "/etc/exports is not there: touch /etc/exports"
    assert share.lacks(FakeHost({"/usr/sbin/exportfs": b"x", "/etc/exports": b""}), "hub") == ""
    assert share.lacks(FakeHost(), "hub") == "/usr/sbin/exportfs is not there: apt install nfs-kernel-server"


def test_what_is_told_is_what_the_controller_reads() -> None:
    host = a_worker(MOUNTED, **{f"{ROOT}/CLAIM_SAFE": b""})

    assert ShareState.model_validate(share.state(host, {"share": WORKER})) == ShareState(
        marker="there",
        text="/srv/spiral/CLAIM_SAFE is there",
        foreign="",
        lacks="",
        mounted=SOURCE,
        unexported=(),
        unread="",
    )
    assert share.state(host, {}) is None
    unread = ShareState.model_validate(share.state(FakeHost({share.MOUNTS: Denied("")}), {"share": WORKER}))
    assert (unread.marker, unread.mounted) == ("unknown", None)
    assert unread.unread != ""


SPEC: dict[str, Any] = {
    "units": [],
    "authorities": [],
    "root": ROOT,
    "control": None,
    "caps": {},
    "reaper": None,
    "convergence": None,
    "share": WORKER,
}


def judged(host: FakeHost, **over: Any) -> dict[str, tuple[str, str, str]]:
    host.programs[("podman", "ps", "--all", "--no-trunc", "--format", "json")] = Completed(0, b"[]", b"")
    return {each.name: each[1:] for each in guardrails.judge(host, {**SPEC, **over})}


def test_what_steers_the_loop_holds_on_a_worker_by_its_hub() -> None:
    found = judged(a_worker(MOUNTED, **{f"{ROOT}/CLAIM_SAFE": b"", "/proc/self/stat": b""}))

    assert {name: verdict[0] for name, verdict in found.items()} == dict.fromkeys(
        (*guardrails.NAMES, "claim-safe"), "ok"
    )
    assert found["reaper"][1] == "on the hub, gh-1"
    assert found["one-producer"][1] == "the hub, gh-1, alone feeds the queue"


def test_a_worker_that_would_feed_or_where_somebody_feeds_breaks_the_one_producer() -> None:
    feeds = {"name": "saturator", "producer": True}
    by_hand = a_worker(
        MOUNTED,
        **{"/proc/7/cmdline": b"/srv/spiral/saturate\0", "/proc/7/cgroup": b"0::/user.slice/user-1.slice/s.scope\n"},
    )

    unit = {"unit": "recon-spiral-saturator.service", "image": "x", "guards": False, "argv": [], **feeds}
    host = a_worker(MOUNTED, **{"/proc/self/stat": b""})

    assert judged(host, units=[unit])["one-producer"][:2] == (
        "broken",
        "saturator would feed the queue beside the hub, gh-1",
    )
    assert judged(by_hand)["one-producer"][0] == "broken"
    assert "somebody runs the producer of gh-1 here: process 7" in judged(by_hand)["one-producer"][1]


def test_a_container_of_the_hubs_producer_on_a_worker_breaks_the_one_producer() -> None:
    image = "registry.example.net/saturator@sha256:" + "a" * 64
    mine = {"Id": "1", "Labels": {"PODMAN_SYSTEMD_UNIT": "recon-spiral-saturator.service"}}
    other = {"Name": "by-tag", "ImageName": "saturator:latest", "ImageDigest": "sha256:" + "a" * 64}
    replies = {
        ("podman", "ps", "--no-trunc", "--format", "json"): [mine, {"Id": "2", "Labels": None}],
        ("podman", "inspect", "--type", "container", "--", "2"): [other],
    }
    host = a_worker(MOUNTED, **{"/proc/self/stat": b""})
    host.programs.update({argv: Completed(0, json.dumps(reply).encode(), b"") for argv, reply in replies.items()})

    assert judged(host, share={**WORKER, "producer": [], "producer_image": image})["one-producer"] == (
        "broken",
        "somebody runs the producer of gh-1 here: container by-tag",
        "end it on the host, for good",
    )


def test_a_worker_without_the_marker_is_broken_and_one_that_cannot_tell_is_unknown() -> None:
    missing, unmounted = a_worker(MOUNTED), a_worker()

    assert judged(missing)["claim-safe"] == (
        "broken",
        "/srv/spiral/CLAIM_SAFE is not there: nobody has said that two hosts never claim the same job",
        "when claiming is safe between hosts, on gh-1: touch /srv/spiral/CLAIM_SAFE",
    )
    assert judged(unmounted)["claim-safe"][:2] == (
        "unknown",
        "it cannot be told: /srv/spiral is not mounted from gh-1",
    )

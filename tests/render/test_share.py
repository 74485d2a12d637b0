"""The units of a share, word for word: what a hub exports by, what a worker mounts by, and what its loops ask."""

from __future__ import annotations

import pytest

from reconciler.errors import DesiredStateError
from reconciler.load.effective import effective_fleet
from reconciler.model.desired import Fleet, FleetFile, HostFile
from reconciler.model.intent_spiral import ShareSpec
from reconciler.model.rendered import RenderedHost
from reconciler.model.spiral import SpiralFile
from reconciler.render import render_host
from reconciler.render.share import mount_name, share_spec

ROOT = "/srv/spiral"
LIMITS = {"memory": "1GiB", "tasks": 64}
SPIRAL = {
    "root": ROOT,
    "user": "spiral",
    "units": {
        "saturator": {"argv": ("/srv/spiral/saturate", "--fast"), "lane": "cpu", "producer": True, "limits": LIMITS},
        "worker": {"argv": ("/srv/spiral/work",), "lane": "gpu", "where": "both", "limits": LIMITS},
        "renderer": {
            "image": "localhost/renderer@sha256:" + "0" * 64,
            "lane": "gpu",
            "where": "workers",
            "limits": LIMITS,
        },
    },
    "jobs": {"refill": {"argv": ("/srv/spiral/refill",)}},
    "control": {"file": "/srv/spiral/control.json", "keys": {"depth": "depth"}},
    "convergence": {"file": "/srv/spiral/state.json", "key": "done"},
    "reaper": {"paths": ("/srv/spiral/renders",), "keep": {"bytes": "1GiB"}},
    "shares": {"motion": {"hub": "gh-1", "workers": ("spark-1", "spark-2")}},
}


def a_fleet(*, enabled: bool = True, root: str = ROOT, **share: object) -> Fleet:
    spiral = {**SPIRAL, "root": root, "shares": {"motion": {**SPIRAL["shares"]["motion"], **share}}}  # type: ignore[index]
    addresses = {"gh-1": "192.0.2.10", "spark-1": "192.0.2.11", "spark-2": "2001:db8::12", "other": "192.0.2.13"}
    own = {"enabled": enabled}
    return effective_fleet(
        FleetFile.model_validate({"version": 1, "name": "studio"}),
        {},
        {name: HostFile.model_validate({"address": address, "spiral": own}) for name, address in addresses.items()},
        SpiralFile.model_validate(spiral),
    )


def rendered(fleet: Fleet, name: str, templates: dict[str, str] | None = None) -> RenderedHost:
    return render_host(fleet, fleet.hosts[name], templates or {})


def body(host: RenderedHost, name: str) -> str:
    return next(file.body for file in host.files if file.name == name)


def lines(host: RenderedHost, name: str, *keys: str) -> list[str]:
    return [line for line in body(host, name).splitlines() if line.partition("=")[0] in keys]


def test_a_worker_mounts_the_root_by_a_mount_unit_that_hangs_on_a_target_of_ours() -> None:
    host = rendered(a_fleet(options=("noatime", "nfsvers=4.2")), "spark-1")

    assert body(host, "srv-spiral.mount") == (
        "[Unit]\n"
        "Description=recon: share motion, the root of the spiral on gh-1\n"
        "PartOf=recon-share-motion.target\n"
        "\n"
        "[Mount]\n"
        "What=192.0.2.10:/srv/spiral\n"
        "Where=/srv/spiral\n"
        "Type=nfs4\n"
        "Options=rw,hard,proto=tcp,timeo=600,retrans=2,nosuid,nodev,_netdev,nfsvers=4.2,noatime\n"
        "TimeoutSec=90\n"
    )
    assert body(host, "recon-share-motion.target") == (
        "[Unit]\n"
        "Description=recon: share motion, the root of the spiral on gh-1\n"
        "BindsTo=srv-spiral.mount\n"
        "After=srv-spiral.mount\n"
        "Wants=recon-spiral-renderer.service\n"
        "Wants=recon-spiral-worker.service\n"
    )
    assert "recon-share-motion.target" in host.boot


def test_a_hub_exports_to_each_worker_by_a_unit_of_its_own() -> None:
    host = rendered(a_fleet(), "gh-1")

    assert body(host, "recon-share-motion-spark-1.service") == (
        "[Unit]\n"
        "Description=recon: share motion, exported to spark-1\n"
        "Requires=nfs-server.service\n"
        "After=nfs-server.service\n"
        "ReloadPropagatedFrom=nfs-server.service\n"
        "RequiresMountsFor=/srv/spiral\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        "RemainAfterExit=yes\n"
        "ExecStart=/usr/sbin/exportfs -o rw,sync,no_subtree_check,root_squash 192.0.2.11:/srv/spiral\n"
        "ExecReload=/usr/sbin/exportfs -o rw,sync,no_subtree_check,root_squash 192.0.2.11:/srv/spiral\n"
        "ExecStop=-/usr/sbin/exportfs -u 192.0.2.11:/srv/spiral\n"
        "TimeoutStartSec=60\n"
        "TimeoutStopSec=60\n"
    )
    assert lines(host, "recon-share-motion-spark-2.service", "ExecStop") == [
        'ExecStop=-/usr/sbin/exportfs -u "[2001:db8::12]:/srv/spiral"'
    ]
    assert [name for name in host.boot if name.startswith("recon-share-")] == [
        "recon-share-motion-spark-1.service",
        "recon-share-motion-spark-2.service",
    ]


@pytest.mark.parametrize(
    ("squash", "word"), [("root", "root_squash"), ("all", "all_squash"), ("none", "no_root_squash")]
)
def test_whom_the_hub_takes_for_nobody_is_an_option_of_the_export(squash: str, word: str) -> None:
    host = rendered(a_fleet(squash=squash), "gh-1")

    assert f"no_subtree_check,{word} 192.0.2.11:/srv/spiral\n" in body(host, "recon-share-motion-spark-1.service")


def test_a_share_uses_the_addresses_of_its_own_network() -> None:
    fleet = a_fleet(addresses={"gh-1": "198.51.100.10", "spark-1": "198.51.100.11"})

    assert lines(rendered(fleet, "spark-1"), "srv-spiral.mount", "What") == ["What=198.51.100.10:/srv/spiral"]
    hub = rendered(fleet, "gh-1")
    assert "198.51.100.11:/srv/spiral\n" in body(hub, "recon-share-motion-spark-1.service")


def test_the_loops_of_a_worker_hang_on_the_share_ask_for_the_marker_and_claim_by_the_tag_of_their_host() -> None:
    host = rendered(a_fleet(), "spark-1")

    assert lines(host, "recon-spiral-worker.service", "BindsTo", "After", "ExecCondition", "Environment")[:-1] == [
        "After=nvidia-persistenced.service nvidia-cdi-refresh.service",
        "BindsTo=recon-share-motion.target",
        "After=recon-share-motion.target",
        lines(host, "recon-spiral-worker.service", "Environment")[0],
        "Environment=RECON_TAG=spark-1",
    ]
    assert "ExecCondition=/usr/bin/test -e /srv/spiral/CLAIM_SAFE\n" in body(host, "recon-spiral-worker.service")
    container = body(host, "recon-spiral-renderer.container")
    assert "Environment=RECON_TAG=spark-1\n" in container.partition("[Service]")[0]
    assert "ExecCondition=/usr/bin/test -e /srv/spiral/CLAIM_SAFE\n" in container.partition("[Service]")[2]
    assert "RECON_TAG=gh-1" in body(rendered(a_fleet(), "gh-1"), "recon-spiral-worker.service")
    assert "ExecCondition" not in body(rendered(a_fleet(), "gh-1"), "recon-spiral-worker.service")


def test_each_host_of_a_share_runs_what_is_its_part_and_one_outside_runs_all() -> None:
    fleet = a_fleet()

    loops = {
        name: tuple(unit.name for unit in spec.units)
        for name in fleet.hosts
        if (spec := rendered(fleet, name).spiral) is not None
    }

    assert loops == {
        "gh-1": ("saturator", "worker"),
        "spark-1": ("renderer", "worker"),
        "spark-2": ("renderer", "worker"),
        "other": ("renderer", "saturator", "worker"),
    }


def test_what_steers_the_loop_is_the_hubs_alone() -> None:
    fleet = a_fleet()
    hub, worker = rendered(fleet, "gh-1").spiral, rendered(fleet, "spark-1").spiral
    assert hub is not None
    assert worker is not None

    assert (worker.jobs, worker.control, worker.convergence, worker.reaper) == ((), None, None, None)
    assert None not in (hub.control, hub.convergence, hub.reaper)
    assert hub.jobs != ()
    assert hub.share == ShareSpec(
        name="motion",
        role="hub",
        hub="gh-1",
        marker="/srv/spiral/CLAIM_SAFE",
        exports={
            "recon-share-motion-spark-1.service": "192.0.2.11",
            "recon-share-motion-spark-2.service": "2001:db8::12",
        },
    )
    assert worker.share == ShareSpec(
        name="motion",
        role="worker",
        hub="gh-1",
        marker="/srv/spiral/CLAIM_SAFE",
        unit="recon-share-motion.target",
        mount="srv-spiral.mount",
        source="192.0.2.10:/srv/spiral",
        producer=("/srv/spiral/saturate", "--fast"),
    )


def test_a_worker_knows_the_producer_of_its_hub_by_its_image_when_that_is_a_container() -> None:
    image = "localhost/saturator@sha256:" + "1" * 64
    fleet = a_fleet()
    assert fleet.spiral is not None
    feeding = {**SPIRAL["units"], "saturator": {"image": image, "lane": "cpu", "producer": True, "limits": LIMITS}}  # type: ignore[dict-item]
    spiral = SpiralFile.model_validate({**SPIRAL, "units": feeding})

    share = share_spec(fleet.model_copy(update={"spiral": spiral}), fleet.hosts["spark-1"])

    assert share is not None
    assert (share.producer, share.producer_image) == ((), image)


def test_a_loop_that_is_off_does_not_come_up_with_the_mount() -> None:
    host = rendered(a_fleet(enabled=False), "spark-1")

    assert "Wants=" not in body(host, "recon-share-motion.target")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/spiral", "srv-spiral.mount"),
        ("/srv/my-data/s_p.1", "srv-my\\x2ddata-s_p.1.mount"),
        ("/srv/.hidden", "srv-.hidden.mount"),
        ("/.data/50%", "\\x2edata-50\\x25.mount"),
        ("/data/ö", "data-\\xc3\\xb6.mount"),
    ],
)
def test_the_mount_has_the_name_that_systemd_gives_it(path: str, name: str) -> None:
    """As `systemd-escape --path --suffix=mount` says (systemd 257)."""
    assert mount_name(path) == name


@pytest.mark.parametrize(
    ("name", "host"), [("share.mount.j2", "spark-1"), ("share.target.j2", "spark-1"), ("share.service.j2", "gh-1")]
)
def test_a_template_that_leaves_out_what_a_share_rests_on_is_refused(name: str, host: str) -> None:
    with pytest.raises(DesiredStateError) as caught:
        rendered(a_fleet(), host, {name: "[Unit]\nDescription={{ description }}\n"})

    assert caught.value.problems[0].code == "REC4009"

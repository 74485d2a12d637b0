"""Shares of the spiral in `desired/`: what is read, and what is refused with which name and place."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.load.fleet import load_fleet
from reconciler.model.share import Client, HostShare
from tests.load.states import FLEET, HOST, problems, write

LOOP = "desired/workloads/spiral.yaml"
BOX, HUB = "desired/hosts/box.yaml", "desired/hosts/hub.yaml"
HUB_FILE = "address: 192.0.2.200\n"
UNITS = """root: /srv/spiral
user: spiral
units:
  feed: {argv: [/bin/feed], lane: cpu, producer: true}
  work: {argv: [/bin/work], lane: cpu, where: both}
"""
SHARE = "shares:\n  motion: {hub: hub, workers: [box]}\n"


def found(tmp_path: Path, loop: str, box: str = HOST, hub: str = HUB_FILE) -> list[tuple[str, str]]:
    return [
        (each.code, str(each.where).removeprefix("desired/"))
        for each in problems(write(tmp_path, {LOOP: loop, BOX: box, HUB: hub}))
    ]


def test_a_share_is_what_each_of_its_hosts_is_in_it(tmp_path: Path) -> None:
    share = "shares:\n  motion:\n    hub: hub\n    workers: [box]\n    addresses: {hub: 198.51.100.1}\n"

    fleet = load_fleet(write(tmp_path, {LOOP: UNITS + share, BOX: HOST, HUB: HUB_FILE}))

    of_hub = HostShare(
        name="motion",
        role="hub",
        hub="hub",
        hub_address="198.51.100.1",
        clients=(Client(worker="box", address=fleet.hosts["box"].address),),
    )
    assert fleet.hosts["hub"].share == of_hub
    assert fleet.hosts["box"].share == of_hub.model_copy(update={"role": "worker", "clients": ()})
    assert fleet.hosts["box"].has_spiral


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        (UNITS + "shares:\n  motion: {hub: hubb, workers: [box]}\n", [("REC2111", "workloads/spiral.yaml:7:17")]),
        (UNITS + "shares:\n  motion: {hub: hub, workers: [boxx]}\n", [("REC2111", "workloads/spiral.yaml:7:32")]),
        (UNITS + "shares:\n  motion: {hub: hub, workers: [hub]}\n", [("REC2112", "workloads/spiral.yaml:7:32")]),
        (UNITS + "shares:\n  motion: {hub: hub, workers: [box, box]}\n", [("REC2112", "workloads/spiral.yaml:7:37")]),
        (
            UNITS + "shares:\n  motion: {hub: hub, workers: [box]}\n  more: {hub: box}\n",
            [("REC2112", "workloads/spiral.yaml:8:15")],
        ),
        (
            UNITS + "shares:\n  motion: {hub: hub, workers: [box], addresses: {bxo: 192.0.2.9}}\n",
            [("REC2111", "workloads/spiral.yaml:7:50")],
        ),
        (
            UNITS + "shares:\n  motion: {hub: hub, workers: [box], addresses: {box: a b}}\n",
            [("REC3010", "workloads/spiral.yaml:7:55")],
        ),
        (
            UNITS.replace("producer: true", "producer: true, where: both") + SHARE,
            [("REC2114", "workloads/spiral.yaml:4:63")],
        ),
        (UNITS.replace(", where: both", "") + SHARE, [("REC2115", "workloads/spiral.yaml:6:1")]),
        (UNITS.replace("user: spiral\n", "") + SHARE, [("REC2118", "workloads/spiral.yaml:6:3")]),
        (
            UNITS + "shares:\n  motion: {hub: hub, workers: [box], options: [nfsvers=4.1, nfsvers=4.2]}\n",
            [("REC2116", "workloads/spiral.yaml:7:61")],
        ),
        (
            UNITS + "shares:\n  motion: {hub: hub, workers: [box], options: [noatime, noatime]}\n",
            [("REC2031", "workloads/spiral.yaml:7:57")],
        ),
        (
            UNITS + "shares:\n  motion: {hub: hub, workers: [box], options: [soft]}\n",
            [("REC2034", "workloads/spiral.yaml:7:48")],
        ),
        (UNITS + "shares:\n  motion: {workers: [box]}\n", [("REC2002", "workloads/spiral.yaml:7:3")]),
        (UNITS + "shares: [motion]\n", [("REC2003", "workloads/spiral.yaml:6:9")]),
    ],
)
def test_a_share_that_cannot_be_is_refused_at_its_place(
    tmp_path: Path, loop: str, expected: list[tuple[str, str]]
) -> None:
    assert found(tmp_path, loop) == expected


def test_a_share_without_a_user_is_accepted_where_root_is_somebody(tmp_path: Path) -> None:
    share = "shares:\n  motion: {hub: hub, workers: [box], squash: none}\n"

    assert found(tmp_path, UNITS.replace("user: spiral\n", "") + share) == []


def test_a_worker_has_no_rate_caps(tmp_path: Path) -> None:
    loop = UNITS + "control: {file: /srv/spiral/c.json, keys: {depth: depth}}\n" + SHARE

    assert found(tmp_path, loop, HOST + "spiral: {rate_caps: {depth: 3}}\n") == [
        ("REC2117", f"hosts/box.yaml:{HOST.count(chr(10)) + 1}:10")
    ]


def test_a_host_of_one_user_can_neither_export_nor_mount(tmp_path: Path) -> None:
    loop = UNITS.replace("user: spiral\n", "") + "shares:\n  motion: {hub: hub, workers: [box], squash: none}\n"

    assert found(tmp_path, loop, hub=HUB_FILE + "scope: user\n") == [("REC2113", "workloads/spiral.yaml:6:17")]


def test_a_host_whose_file_is_broken_is_not_an_unknown_one(tmp_path: Path) -> None:
    assert found(tmp_path, UNITS + SHARE, hub="address: [1]\n") == [("REC2003", "hosts/hub.yaml:1:10")]


def test_a_coven_does_not_begin_with_the_word_that_the_units_of_a_share_have(tmp_path: Path) -> None:
    from tests.load.states import COVEN

    at = write(tmp_path, {"desired/fleet.yaml": FLEET, "desired/covens/share-x.yaml": COVEN})

    assert ("REC3001", "desired/covens/share-x.yaml") in [(each.code, str(each.where)) for each in problems(at)]

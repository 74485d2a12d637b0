"""The spiral in `desired/`: what is read, and what is refused with which name and place."""

# ruff: noqa: E501 - a table is read row by row, and a row is one line

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.load.fleet import load_fleet
from reconciler.model.desired import Spiral
from reconciler.model.limits import Limits, Stop
from reconciler.model.spiral import (
    Convergence,
    Keep,
    Reaper,
    SpiralBackoff,
    SpiralControl,
    SpiralFile,
    SpiralJob,
    SpiralUnit,
)
from tests.load.states import FLEET, HOST, IMAGE, problems, write

LOOP = "desired/workloads/spiral.yaml"
BOX = "desired/hosts/box.yaml"
GIB = 1 << 30

WHOLE = f"""description: The resident research loop
root: /srv/spiral
user: spiral
units:
  worker: {{argv: [/usr/bin/python3, -m, spiral.worker], lane: gpu, memory: 24GiB, limits: {{memory: 32GiB, tasks: 512}}}}
  saturator: {{argv: [/srv/spiral/saturate], lane: gpu, producer: true, limits: {{memory: 1GiB, tasks: 64}}}}
  gemma: {{image: "{IMAGE}", lane: gpu, memory: 8GiB, args: [--fast], volumes: ["/srv/spiral:/spiral"], limits: {{memory: 16GiB, tasks: 64}}}}
  guardian: {{argv: [/srv/spiral/guard], lane: cpu, nice: 5, guards: hangs, limits: {{memory: 1GiB, tasks: 64, cpus: 2}}}}
jobs:
  refill: {{argv: [/srv/spiral/refill], timeout: 10m, limits: {{memory: 1GiB, tasks: 64}}}}
control:
  file: /srv/spiral/control.json
  keys: {{jobs_per_hour: limits.jobs_per_hour, queue_depth: limits.queue_depth}}
convergence: {{file: /srv/spiral/state.json, key: converged, equals: true}}
backoff: {{gpu: 95%, memory: 92%, for: 10m, factor: 0.5, least: 0.1}}
reaper:
  every: 1h
  paths: [/srv/spiral/renders]
  keep: {{bytes: 200GiB, age: 720h, count: 10000}}
authorities: ["spiral-*"]
"""
BARE = "root: /srv/spiral\nunits:\n  one: {argv: [/bin/one], lane: cpu}\n"


def test_the_whole_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    host = HOST + "spiral: {enabled: true, rate_caps: {jobs_per_hour: 12, queue_depth: 40}}\n"

    fleet = load_fleet(write(tmp_path, {LOOP: WHOLE, BOX: host}))

    assert fleet.hosts["box"].spiral == Spiral(enabled=True, rate_caps={"jobs_per_hour": 12, "queue_depth": 40})
    assert fleet.spiral == SpiralFile(
        description="The resident research loop",
        root="/srv/spiral",
        user="spiral",
        units={
            "worker": SpiralUnit.model_construct(
                argv=("/usr/bin/python3", "-m", "spiral.worker"),
                image=None,
                lane="gpu",
                producer=False,
                guards=None,
                memory=24 * GIB,
                nice=None,
                command=(),
                args=(),
                env={},
                volumes=(),
                shm=None,
                limits=Limits.model_construct(memory=32 * GIB, tasks=512, cpus=None),
                stop=Stop(),
            ),
            **{name: fleet.spiral.units[name] for name in ("saturator", "gemma", "guardian") if fleet.spiral},
        },
        jobs={
            "refill": SpiralJob.model_construct(
                argv=("/srv/spiral/refill",),
                lane="cpu",
                memory=0,
                nice=None,
                env={},
                timeout=600.0,
                limits=Limits.model_construct(memory=GIB, tasks=64, cpus=None),
                stop=Stop(),
            )
        },
        control=SpiralControl(
            file="/srv/spiral/control.json",
            keys={"jobs_per_hour": "limits.jobs_per_hour", "queue_depth": "limits.queue_depth"},
        ),
        convergence=Convergence(file="/srv/spiral/state.json", key="converged", equals=True),
        backoff=SpiralBackoff.model_validate(
            {"gpu": "95%", "memory": "92%", "for": "10m", "factor": 0.5, "least": 0.1}
        ),
        reaper=Reaper.model_construct(
            every=3600.0,
            paths=("/srv/spiral/renders",),
            keep=Keep.model_construct(bytes=200 * GIB, age=720 * 3600.0, count=10000),
        ),
        authorities=("spiral-*",),
    )


def test_a_host_that_says_nothing_has_nothing_of_the_spiral(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, {LOOP: BARE}))

    assert not fleet.hosts["box"].has_spiral


def test_a_spiral_that_is_half_declared_is_no_bad_input(tmp_path: Path) -> None:
    assert problems(write(tmp_path, {LOOP: BARE})) == ()


def whole(old: str, new: str) -> dict[str, str]:
    assert old in WHOLE
    return {LOOP: WHOLE.replace(old, new)}


ROWS: list[tuple[str, dict[str, str], str, str, str]] = [
    (
        "another workload",
        {"desired/workloads/loop.yaml": BARE},
        "REC2036",
        "desired/workloads/loop.yaml",
        "spiral.yaml",
    ),
    ("unknown key", {LOOP: BARE + "rot: /x\n"}, "REC2001", f"{LOOP}:4:1", "did you mean 'root'?"),
    (
        "unknown key of a unit",
        {LOOP: BARE.replace("lane: cpu", "lane: cpu, produces: true")},
        "REC2001",
        f"{LOOP}:3:38",
        "'producer'",
    ),
    ("no root", {LOOP: "units:\n  one: {argv: [/bin/one], lane: cpu}\n"}, "REC2002", f"{LOOP}:1:1", "add 'root:"),
    ("no lane", {LOOP: "root: /srv/s\nunits:\n  one: {argv: [/bin/one]}\n"}, "REC2002", f"{LOOP}:3:3", "add 'lane:"),
    ("unknown lane", {LOOP: BARE.replace("lane: cpu", "lane: cp")}, "REC2034", f"{LOOP}:3:33", "did you mean 'cpu'?"),
    (
        "root outside of what may be mounted",
        {LOOP: BARE.replace("/srv/spiral", "/home/spiral")},
        "REC2017",
        f"{LOOP}:1:7",
        "allow_mounts",
    ),
    ("root that climbs", {LOOP: BARE.replace("/srv/spiral", "/srv/../etc")}, "REC3004", f"{LOOP}:1:7", "/etc"),
    ("bad user", {LOOP: BARE + "user: Root!\n"}, "REC3010", f"{LOOP}:4:7", "login name"),
    ("no units", {LOOP: "root: /srv/s\nunits: {}\n"}, "REC2080", f"{LOOP}:2:8", "add a unit"),
    ("bad unit name", {LOOP: BARE.replace("  one:", "  One:")}, "REC3001", f"{LOOP}:3:3", "write 'one'"),
    ("argv and image", {LOOP: BARE.replace("lane:", f'image: "{IMAGE}", lane:')}, "REC2080", f"{LOOP}:3:3", "both"),
    ("neither argv nor image", {LOOP: BARE.replace("argv: [/bin/one], ", "")}, "REC2080", f"{LOOP}:3:3", "neither"),
    ("argv as one text", {LOOP: BARE.replace("[/bin/one]", "/bin/one -x")}, "REC3012", f"{LOOP}:3:15", "use a list"),
    (
        "program without its path",
        {LOOP: BARE.replace("/bin/one", "python3")},
        "REC2081",
        f"{LOOP}:3:16",
        "/usr/bin/python3",
    ),
    ("image without digest", whole(IMAGE, "registry.example.net/a/b:1"), "REC2014", f"{LOOP}:7:18", "@sha256"),
    (
        "volumes of a program",
        {LOOP: BARE.replace("lane: cpu", 'lane: cpu, volumes: ["/srv/a:/a"]')},
        "REC2082",
        f"{LOOP}:3:38",
        "program of the host",
    ),
    (
        "volume outside of what may be mounted",
        whole("/srv/spiral:/spiral", "/etc:/spiral"),
        "REC2017",
        f"{LOOP}:7:",
        "/etc",
    ),
    (
        "GPU memory of lane cpu",
        {LOOP: BARE.replace("lane: cpu", "lane: cpu, memory: 1GiB")},
        "REC2082",
        f"{LOOP}:3:46",
        "lane: gpu",
    ),
    (
        "nice of lane gpu",
        {LOOP: BARE.replace("lane: cpu", "lane: gpu, nice: 3")},
        "REC2082",
        f"{LOOP}:3:38",
        "lane: cpu",
    ),
    ("too nice", {LOOP: BARE.replace("lane: cpu", "lane: cpu, nice: 20")}, "REC2034", f"{LOOP}:3:44", "bounds"),
    (
        "guardian that produces",
        {LOOP: BARE.replace("lane: cpu", "lane: cpu, guards: hangs, producer: true")},
        "REC2082",
        f"{LOOP}:3:38",
        "guardian",
    ),
    (
        "guardian for crashes",
        {LOOP: BARE.replace("lane: cpu", "lane: cpu, guards: crashes")},
        "REC2034",
        f"{LOOP}:3:46",
        "hangs",
    ),
    (
        "variable that replaces libraries",
        {LOOP: BARE.replace("lane: cpu", "lane: cpu, env: {LD_PRELOAD: x}")},
        "REC3009",
        f"{LOOP}:3:44",
        "allow_env",
    ),
    (
        "too few tasks",
        {LOOP: BARE.replace("lane: cpu", "lane: cpu, limits: {tasks: 1}")},
        "REC2034",
        f"{LOOP}:3:54",
        "16",
    ),
    (
        "stop that takes a day",
        {LOOP: BARE.replace("lane: cpu", "lane: cpu, stop: {timeout: 24h}")},
        "REC2012",
        f"{LOOP}:3:54",
        "at most",
    ),
    ("job without words", {LOOP: BARE + "jobs:\n  a: {argv: []}\n"}, "REC2081", f"{LOOP}:5:13", "whole path"),
    (
        "job without its path",
        {LOOP: BARE + "jobs:\n  a: {argv: [refill]}\n"},
        "REC2081",
        f"{LOOP}:5:14",
        "/usr/bin/refill",
    ),
    (
        "job that takes a week",
        {LOOP: BARE + "jobs:\n  a: {argv: [/bin/a], timeout: 100h}\n"},
        "REC2012",
        f"{LOOP}:5:32",
        "at most",
    ),
    (
        "control file outside",
        whole("/srv/spiral/control.json", "/srv/control.json"),
        "REC2083",
        f"{LOOP}:12:9",
        "below root",
    ),
    (
        "control file that climbs",
        whole("/srv/spiral/control.json", "/srv/spiral/../x.json"),
        "REC3004",
        f"{LOOP}:12:9",
        "/srv/x.json",
    ),
    (
        "control without keys",
        whole("keys: {jobs_per_hour: limits.jobs_per_hour, queue_depth: limits.queue_depth}", "keys: {}"),
        "REC2084",
        f"{LOOP}:13:9",
        "name a key",
    ),
    (
        "two caps on one key",
        whole("limits.queue_depth}", "limits.jobs_per_hour}"),
        "REC2084",
        f"{LOOP}:13:60",
        "of its own",
    ),
    ("a cap inside another", whole("limits.queue_depth}", "limits}"), "REC2084", f"{LOOP}:13:60", "over each other"),
    ("bad dotted key", whole("limits.queue_depth}", "limits..depth}"), "REC2034", f"{LOOP}:13:60", "as expected"),
    (
        "convergence file outside",
        whole("/srv/spiral/state.json", "/srv/state.json"),
        "REC2083",
        f"{LOOP}:14:21",
        "below root",
    ),
    ("convergence of a list", whole("equals: true", "equals: [1]"), "REC2003", f"{LOOP}:14:69", "number or a text"),
    ("bad share", whole("95%", "950%"), "REC2089", f"{LOOP}:15:16", "95%"),
    ("share without its sign", whole("95%", "0.95"), "REC2089", f"{LOOP}:15:16", "95%"),
    (
        "back-off without a threshold",
        whole("gpu: 95%, memory: 92%", "gpu: null, memory: null"),
        "REC2089",
        f"{LOOP}:15:1",
        "never",
    ),
    ("factor that raises", whole("factor: 0.5", "factor: 1.5"), "REC2034", f"{LOOP}:15:52", "bounds"),
    (
        "reaper without a budget",
        whole("{bytes: 200GiB, age: 720h, count: 10000}", "{}"),
        "REC2085",
        f"{LOOP}:19:9",
        "bytes",
    ),
    ("bad age", whole("age: 720h", "age: 30 days"), "REC2010", f"{LOOP}:19:30", "720h"),
    ("reaper without paths", whole("[/srv/spiral/renders]", "[]"), "REC2085", f"{LOOP}:18:10", "directory"),
    ("reaper of the root", whole("[/srv/spiral/renders]", "[/srv/spiral]"), "REC2085", f"{LOOP}:18:11", "lies in"),
    ("reaper outside", whole("[/srv/spiral/renders]", "[/var/log]"), "REC2017", f"{LOOP}:18:11", "allow_mounts"),
    (
        "reaper that climbs",
        whole("[/srv/spiral/renders]", "[/srv/spiral/renders/..]"),
        "REC3004",
        f"{LOOP}:18:11",
        "'..'",
    ),
    (
        "reaper paths in each other",
        whole("[/srv/spiral/renders]", "[/srv/spiral/renders, /srv/spiral/renders/a]"),
        "REC2031",
        f"{LOOP}:18:32",
        "one lies in the other",
    ),
    (
        "authority that is recon",
        whole('["spiral-*"]', '["*spiral*"]'),
        "REC2088",
        f"{LOOP}:20:15",
        "recon-spiral-worker",
    ),
    ("bad glob", whole('["spiral-*"]', '["a b"]'), "REC2088", f"{LOOP}:20:15", "spiral-*"),
    ("authority twice", whole('["spiral-*"]', '["a-*", "a-*"]'), "REC2031", f"{LOOP}:20:22", "already"),
    ("enabled and not declared", {BOX: HOST + "spiral: {enabled: true}\n"}, "REC2086", f"{BOX}:3:19", "spiral.yaml"),
    (
        "cap without a key",
        {LOOP: WHOLE, BOX: HOST + "spiral: {rate_caps: {jobs_per_our: 1}}\n"},
        "REC2084",
        f"{BOX}:3:22",
        "'jobs_per_hour'",
    ),
    (
        "cap below nothing",
        {LOOP: WHOLE, BOX: HOST + "spiral: {rate_caps: {queue_depth: -1}}\n"},
        "REC2034",
        f"{BOX}:3:35",
        "bounds",
    ),
    ("unknown slot", {LOOP: WHOLE, BOX: HOST + "spiral: {slot: left}\n"}, "REC2087", f"{BOX}:3:16", "name one of: all"),
    (
        "no slot among several",
        {
            LOOP: WHOLE,
            BOX: 'address: 192.0.2.1\nslots: {l: {gpus: ["0"], coven: writing}, r: {gpus: ["1"]}}\nspiral: {enabled: true}\n',
        },
        "REC2087",
        f"{BOX}:3:1",
        "slot: l",
    ),
    (
        "coven of its name",
        {"desired/covens/spiral-a.yaml": "services: {}\n"},
        "REC3001",
        "desired/covens/spiral-a.yaml",
        "makes itself",
    ),
    (
        "more memory than there is",
        {LOOP: WHOLE, BOX: HOST + "memory: {capacity: 40GiB}\nspiral: {enabled: true}\n"},
        "REC2007",
        f"{BOX}:2:8",
        "32GiB spiral",
    ),
    ("not text", {LOOP: BARE + 'description: "a\\nb"\n'}, "REC3005", f"{LOOP}:4:14", "one line"),
]


@pytest.mark.parametrize(("files", "code", "place", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_wrong_with_a_spiral_is_told_with_its_code_place_and_hint(
    tmp_path: Path, files: dict[str, str], code: str, place: str, words: str
) -> None:
    found = problems(write(tmp_path, {"desired/fleet.yaml": FLEET, **files}))

    said = [(each.code, str(each.where), f"{each.detail} {each.fix}") for each in found]
    assert any(each[0] == code and each[1].startswith(place) and words in each[2] for each in said), said

"""What the real generator of podman 5.4.2 was seen to do; `tests/lab` asks a real one about the same things."""

from __future__ import annotations

import pytest

from reconciler.sim.machine import GENERATOR, SimMachine
from reconciler.sim.quadlet import SUPPORTED, generate
from reconciler.sim.unitfile import BadUnitError, expand, parse, quote, seconds, split, values
from tests.sim.covens import put

STAGE = "/etc/recon/generations/7"


@pytest.fixture
def machine() -> SimMachine:
    made = SimMachine.new("gpu-1")
    made.mkdir(STAGE)
    return made


def dryrun(machine: SimMachine) -> tuple[int, dict[str, str], list[str]]:
    done = machine.run([GENERATOR, "--dryrun"], 10.0, env={"QUADLET_UNIT_DIRS": STAGE})
    units: dict[str, str] = {}
    for part in done.out.decode().split("---\n---"):
        name, _, text = part.strip("-").partition("---\n")
        if text:
            units[name] = text
    return done.rc, units, done.err.decode().splitlines()


def exec_start(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("ExecStart="))


def test_the_command_line_is_the_one_podman_builds(machine: SimMachine) -> None:
    put(
        machine,
        f"{STAGE}/recon-a-m.container",
        """[Unit]
After=x.service
[Container]
ContainerName=recon-a-m
Image=docker.io/x/y@sha256:11
Pull=never
AddDevice=nvidia.com/gpu=all
Network=host
ShmSize=16g
PidsLimit=8192
Volume=/srv/models:/models:ro
Environment="HF_HOME=/x y" A=b
Exec=--model "/models/m m" --port 8000 --x '50%%' 'a\\\\b'
Label=io.recon.managed=true
Label=io.recon.config-hash=3f
StopTimeout=60
LogDriver=journald
[Service]
Restart=always
[Install]
WantedBy=recon-coven-a.target
""",
    )

    rc, units, _ = dryrun(machine)

    assert rc == 0
    assert exec_start(units["recon-a-m.service"]) == (
        "ExecStart=/usr/bin/podman run --name recon-a-m --cidfile=%t/%N.cid --replace --rm --log-driver journald"
        " --cgroups=split --pids-limit 8192 --shm-size 16g --pull never --stop-timeout 60 --network host"
        " --sdnotify=conmon -d --device nvidia.com/gpu=all -v /srv/models:/models:ro --env A=b"
        ' --env "HF_HOME=/x y" --label io.recon.config-hash=3f --label io.recon.managed=true'
        ' docker.io/x/y@sha256:11 --model "/models/m m" --port 8000 --x 50%% "a\\\\b"'
    )
    assert f"SourcePath={STAGE}/recon-a-m.container" in units["recon-a-m.service"].splitlines()
    assert {"Delegate=yes", "Type=notify", "KillMode=mixed", "Restart=always"} <= set(
        units["recon-a-m.service"].splitlines()
    )


def test_one_unknown_key_drops_its_unit_and_no_other(machine: SimMachine) -> None:
    put(machine, f"{STAGE}/bad.container", "[Container]\nImage=x\nMemory=1g\n")
    put(machine, f"{STAGE}/good.container", "[Container]\nImage=docker.io/x/y:1\n")

    rc, units, errors = dryrun(machine)

    assert (rc, sorted(units)) == (1, ["good.service"])
    assert errors == [
        "quadlet-generator[1]: converting \"bad.container\": unsupported key 'Memory' in group 'Container'"
        f" in {STAGE}/bad.container"
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[Container]\nExec=serve\n", "no Image or Rootfs key specified"),
        ("[Container]\nImage=x\n[Service]\nType=simple\n", "invalid service Type 'simple'"),
    ],
)
def test_a_container_that_makes_no_unit_says_why(machine: SimMachine, text: str, why: str) -> None:
    put(machine, f"{STAGE}/d.container", text)

    assert dryrun(machine) == (1, {}, [f'quadlet-generator[1]: converting "d.container": {why}'])


def test_a_line_that_is_no_setting_takes_its_whole_directory_along_but_not_the_next(machine: SimMachine) -> None:
    put(machine, f"{STAGE}/e.container", "garbage\n[Container]\nImage=docker.io/x/y:1\n")
    put(machine, f"{STAGE}/f.container", "[Container]\nImage=docker.io/x/y:1\n")
    put(machine, f"{STAGE}/sub/h.container", "[Container]\nImage=docker.io/x/y:1\n")

    rc, units, errors = dryrun(machine)

    assert (rc, sorted(units)) == (1, ["h.service"])
    assert errors == [
        f'quadlet-generator[1]: error loading "{STAGE}/e.container", file contains line 1: “garbage” which is not a'
        " key-value pair, group, or comment"
    ]


def test_the_run_tier_wins_over_etc_and_a_linked_directory_counts_once_under_its_real_path(
    machine: SimMachine,
) -> None:
    for number in (1, 2):
        put(
            machine,
            f"/etc/recon/generations/{number}/recon-a-m.container",
            f"[Container]\nImage=docker.io/x/y:{number}\n",
        )
    machine.symlink("/etc/recon/generations/1", "/etc/containers/systemd/recon")
    machine.mkdir("/run/containers/systemd")
    machine.symlink("/etc/recon/generations/2", "/run/containers/systemd/recon-trial")

    on_trial = generate(machine.files).units["recon-a-m.service"]
    machine.symlink("/etc/recon/generations/2", "/etc/containers/systemd/recon")
    both = generate(machine.files).units["recon-a-m.service"]

    assert "SourcePath=/etc/recon/generations/2/recon-a-m.container" in on_trial.splitlines()
    assert both == on_trial


def test_the_words_of_exec_end_at_the_first_empty_one_and_a_device_with_a_dash_is_forgotten(
    machine: SimMachine,
) -> None:
    put(
        machine,
        f"{STAGE}/q.container",
        "[Container]\nImage=docker.io/x/y:1\nAddDevice=-nvidia.com/gpu=all\n"
        'Exec=a \'b c\' "d\\"e" $$BAR ; \\x41 "" z\n',
    )

    _, units, _ = dryrun(machine)

    assert exec_start(units["q.service"]).partition(" -d ")[2] == 'docker.io/x/y:1 a "b c" "d\\"e" $$BAR ; A'


def test_readiness_follows_notify(machine: SimMachine) -> None:
    found = []
    for value in ("", "Notify=healthy\nHealthCmd=curl x\n", "Notify=true\n"):
        put(machine, f"{STAGE}/q.container", f"[Container]\nImage=docker.io/x/y:1\n{value}")
        _, units, _ = dryrun(machine)
        found.append(exec_start(units["q.service"]).partition("--sdnotify=")[2].split(" ")[0])

    assert found == ["conmon", "healthy", "container"]


def test_the_keys_are_those_of_podman_5_4() -> None:
    assert {"Image", "Exec", "StopTimeout", "Notify", "Pull", "AddDevice", "HealthStartupCmd"} <= SUPPORTED
    assert not {"Memory", "ReloadCmd", "Retry", "HttpProxy", "AppArmor"} & SUPPORTED


def test_unit_files_are_read_as_systemd_reads_them() -> None:
    text = "[Unit]\n; a comment\nAfter=a.service \\\n# inside\n  b.service\nWants=x\nWants=\nWants=y\n"

    assert parse(text) == {"Unit": [("After", "a.service b.service"), ("Wants", "x"), ("Wants", ""), ("Wants", "y")]}
    assert values(parse(text), "Unit", "Wants") == ["y"]
    with pytest.raises(BadUnitError):
        parse("After=x\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4h", 14400.0), ("1min 30s", 90.0), ("250ms", 0.25), ("120", 120.0), ("infinity", float("inf")), ("", 7.0)],
)
def test_time_spans(text: str, expected: float) -> None:
    assert seconds(text, 7.0) == expected


@pytest.mark.parametrize("text", ["5 parsecs", "x", "3s later"])
def test_what_is_no_time_span_is_an_error(text: str) -> None:
    with pytest.raises(BadUnitError):
        seconds(text, 1.0)


@pytest.mark.parametrize("word", ["plain", "with space", 'a"b', "a'b", "back\\slash", "tab\there", "ä;$x"])
def test_quoted_words_come_back(word: str) -> None:
    assert split(quote(word)) == [word]


def test_specifiers() -> None:
    assert expand("%t/%N.cid %n 50%% %q", "a-b.service", {"t": "/run"}) == "/run/a-b.cid a-b.service 50% %q"

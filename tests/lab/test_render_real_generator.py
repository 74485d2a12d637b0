"""What the real Quadlet generator and the real systemd make of hostile values: the words that were meant, all of them.

Podman's generator is run once over many rendered units. Its command lines are then started by systemd with a program
in podman's place that writes down the words it got: nothing here models a parser.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

from reconciler.lab.machines import Machine
from reconciler.model.desired import (
    ALL_GPUS,
    Coven,
    Drain,
    Fleet,
    Host,
    MemorySpec,
    Platform,
    Policy,
    Service,
    Slot,
    Spiral,
    Ssh,
)
from reconciler.model.rendered import RenderedHost
from reconciler.render import render_host

IMAGE = "registry.example.net/studio/server@sha256:" + "ab" * 32
PER_SERVICE = 25

SINGLE = (
    *(" ", "  ", ";", ";;", "; reboot", "\\;", "#", "# not a comment", "[Service]", "ExecStartPre=/bin/false"),
    *("%", "%%", "%h", "%i", "%n", "100%", "%%%", "$", "$$", "$$$", "$HOME", "${HOME}", "$${X}", "a$b", "cost: 5$"),
    *("\\", "\\\\", "a\\", "a\\\\", "\\n", "\\x41", "\\s", "C:\\dir\\", '"', '""', "'", "''", "it's", 'say "hi"'),
    *('a"', "a'", "'a", '{"image": 4, "b": [1, "%d"]}', "--flag=a b", "-", "--", "=", "a=b=c", "@", "-/x", "+x", "!!x"),
    *("é", "漢字", "👩‍🔬", "\u00a0", "\u00a0x\u00a0", "\u3000", "\u200b", "\ufeff", "\u202e", "e\u0301", "\u2003x"),
    *(
        " lead",
        "trail ",
        " both ",
        "a  b",
        "*",
        "?",
        "~",
        "`id`",
        "$(id)",
        "|",
        "&&",
        ">",
        "a:b",
        "a,b",
        "%t/containers",
    ),
)


def hostile_values() -> tuple[str, ...]:
    """The known troublemakers, every pair of troublesome letters, and random mixtures that never change."""
    letters = " \"'\\%$;#{}é\u00a0"
    pairs = ("".join(pair) for pair in itertools.product(letters, repeat=2))
    rng = random.Random(20)
    mixtures = ("".join(rng.choices(letters + "ab=:[]|-ihn", k=rng.randint(3, 16))) for _ in range(300))
    return ("", *SINGLE, *pairs, *mixtures)


def hostile_services(values: tuple[str, ...]) -> dict[str, Service]:
    """Services that carry the values as arguments, environment, and mounts, an empty one between any others."""
    services = {}
    for number, chunk in enumerate(_chunks(values)):
        services[f"s{number}"] = Service(
            runtime="none",
            image=IMAGE,
            memory="1GiB",  # type: ignore[arg-type] # sizes are read from text
            command=("serve", ""),
            args=(*chunk, "", "end"),
            env={f"V{place}": value for place, value in enumerate(chunk)},
            volumes=tuple(
                f"/srv/m{place}%${place};#:/in/{value.replace(':', '')}" for place, value in enumerate(chunk) if value
            ),
        )
    return services


def _chunks(values: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [values[start : start + PER_SERVICE] for start in range(0, len(values), PER_SERVICE)]


def rendered(services: dict[str, Service]) -> RenderedHost:
    coven = Coven(name="hostile", description="ends with \\", services=services, drain=Drain())
    host = Host(
        name="lab-1",
        address="192.0.2.1",
        host_key=None,
        ssh=Ssh(),
        reserve=None,
        memory=MemorySpec(),
        platform=Platform(),
        slots=(Slot(name=ALL_GPUS, gpus="all", coven="hostile"),),
        may_run=("hostile", "other"),
        shared=(),
        residents={"helper": next(iter(services.values()))},
        spiral=Spiral(),
        schedule=(),
    )
    other = Coven(name="other", description=None, services={"s": next(iter(services.values()))}, drain=Drain())
    fleet = Fleet(
        name="studio",
        transport="ssh",
        policy=Policy(),
        covens={"hostile": coven, "other": other},
        hosts={"lab-1": host},
    )
    return render_host(fleet, host, {})


# Runs on the host. Files and a program that writes its words down come in; the words of every unit go out.
ON_HOST = r"""
import json, os, pathlib, shutil, subprocess, sys
order = json.loads(ORDER)
work = pathlib.Path("/run/render-test")
shutil.rmtree(work, ignore_errors=True)
for part in ("quadlets", "units", "words"):
    (work / part).mkdir(parents=True)
for name, text in order["files"].items():
    (work / ("quadlets" if name.endswith(".container") else "units") / name).write_text(text)
spy = work / "spy"
spy.write_text(
    "#!/usr/bin/python3\nimport json, os, sys\n"
    "name = sys.argv[sys.argv.index('--name') + 1]\n"
    "json.dump([os.fsencode(word).decode() for word in sys.argv[1:]], open('/run/render-test/words/' + name, 'w'))\n"
)
spy.chmod(0o755)
made = subprocess.run(
    ["/usr/lib/systemd/system-generators/podman-system-generator", "--dryrun"],
    env={**os.environ, "QUADLET_UNIT_DIRS": str(work / "quadlets")}, capture_output=True, text=True, check=True,
).stdout
texts, name = {}, ""
for line in made.splitlines(keepends=True):
    if line.startswith("---") and line.rstrip().endswith(".service---"):
        name = line.strip().strip("-")
        texts[name] = ""
    elif name:
        texts[name] += line
for name, text in texts.items():
    (work / "units" / name).write_text(text)
verify = subprocess.run(
    ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *map(str, sorted((work / "units").iterdir()))],
    env={**os.environ, "SYSTEMD_UNIT_PATH": f"{work}/units:"}, capture_output=True, text=True,
)
started = []
for name, text in texts.items():
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    program, rest = line.removeprefix("ExecStart=").split(" ", 1)
    assert program == "/usr/bin/podman", line
    unit = "render-test-" + name
    text = f"[Service]\nType=oneshot\nExecStart={spy} {rest}\nExecStartPost=\n"
    pathlib.Path("/run/systemd/system", unit).write_text(text)
    started.append(unit)
try:
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    run = subprocess.run(["systemctl", "start", *started], capture_output=True, text=True)
    words = {path.name: json.loads(path.read_text()) for path in (work / "words").iterdir()}
finally:
    for unit in started:
        pathlib.Path("/run/systemd/system", unit).unlink()
    subprocess.run(["systemctl", "reset-failed", "render-test-*"], capture_output=True)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    shutil.rmtree(work)
print(json.dumps({"words": words, "start": run.stderr, "verify": [verify.returncode, verify.stderr]}))
"""


def test_every_hostile_value_reaches_podman_as_it_was_written(machine: Machine) -> None:
    services = hostile_services(hostile_values())
    host = rendered(services)
    program = f"ORDER = {json.dumps({'files': {file.name: file.body for file in host.files}})!r}\n{ON_HOST}"

    said = json.loads(machine.run(["python3", "-"], stdin=program.encode()).stdout)

    assert said["start"] == ""
    assert said["verify"] == [0, ""]
    members = [member for group in host.groups.values() for member in group.members] + list(host.residents)
    assert sorted(said["words"]) == sorted(member.container for member in members)
    for member in members:
        words = said["words"][member.container]
        end = words.index(IMAGE)
        assert (member.container, tuple(words[end + 1 :])) == (member.container, member.argv)
        service = services.get(member.service) or services["s0"]
        assert options(words[:end], "--env") == Counter(f"{key}={value}" for key, value in service.env.items())
        assert options(words[:end], "-v") == Counter(service.volumes)


def options(words: list[str], name: str) -> Counter[str]:
    """Return the values of an option; the generator writes options in another order on every run."""
    return Counter(after for word, after in itertools.pairwise(words) if word == name)

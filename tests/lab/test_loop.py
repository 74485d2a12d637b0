"""The host's own programs of the spiral on a real host: a shared file, files that go, a job and its journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.lab import labs
from reconciler.lab.machines import Machine
from tests.agent.test_exchange import IN_PLACE, RENAMES, WRITES
from tests.agent.ticks import ROOT, job, member, spec
from tests.lab.agent_on_host import agent_on, play
from tests.lab.conftest import progress

CONTROL = f"{ROOT}/control.json"
_COMMIT = """
from agent import dispatch, places
from agent.record import write_record
from agent.wire import RequestError
def commit(spiral):
    machine.mkdir(places.generation(1))
    body = {"generation": 1, "host": "gpu-1", "live": {}, "groups": [], "residents": [], "spiral": spiral}
    write_record(machine, places.generation(1) + "/manifest.json", body)
    machine.mkdir(places.STATE)
    machine.mkdir("/etc/containers/systemd")
    machine.symlink(places.generation(1), places.COMMITTED)
def ask(verb, **args):
    try:
        return dispatch.handle(machine, verb, args, {"digest": "", "mode": "installed", "bundle": None})
    except RequestError as error:
        return {"refused": error.code}
commit(json.loads(words[0]))
"""


@pytest.fixture(scope="module")
def only(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One host, with the agent's code on it; nothing of recon is installed there."""
    with labs.running(tmp_path_factory.mktemp("lab"), hosts=1, progress=progress) as booted:
        machine = booted.machines[0]
        with agent_on(machine):
            yield machine


@pytest.fixture
def root(only: Machine) -> Iterator[Machine]:
    only.run(["mkdir", "-p", f"{ROOT}/renders"])
    yield only
    only.run(["rm", "-rf", ROOT, "/etc/recon", "/var/lib/recon", "/run/recon", "/etc/containers/systemd/recon"])


@pytest.mark.parametrize("program", [RENAMES, IN_PLACE])
def test_a_thousand_writes_of_another_program_lose_nothing(root: Machine, program: str) -> None:
    root.run(["tee", CONTROL], stdin=b'{"prompt": "a fox", "counter": 0, "limits": {"jobs_per_hour": 1}, "seed": 7}')
    root.run(["chmod", "0640", CONTROL])

    found = play(
        root,
        """
import subprocess
from agent import caps
spec = json.loads(words[0])
other = subprocess.Popen(["python3", "-c", words[1], words[2], words[3]])
rounds, problems = 0, []
while other.poll() is None:
    rounds += 1
    written = caps.write(machine, spec, {"jobs_per_hour": rounds, "queue_depth": 40})
    problems += [written.problem] if written.problem else []
caps.write(machine, spec, {"jobs_per_hour": 12, "queue_depth": 40})
found = {"rounds": rounds, "problems": problems, "other": other.returncode}
""",
        json.dumps(spec()),
        program,
        CONTROL,
        str(WRITES),
    )

    document = json.loads(root.path(CONTROL).read_text())
    assert (found["other"], [each for each in found["problems"] if "writes it all the time" not in each]) == (0, [])
    assert document["counter"] == WRITES
    assert [key for key in document if key.startswith("theirs-")] == [f"theirs-{number}" for number in range(WRITES)]
    assert list(document)[:4] == ["prompt", "counter", "limits", "seed"]
    assert document["limits"] == {"jobs_per_hour": 12, "queue_depth": 40}
    assert sorted(each.name for each in root.path(ROOT).iterdir()) == ["control.json", "renders"]


def reap(machine: Machine, *, go: bool) -> dict[str, Any]:
    answer: dict[str, Any] = play(machine, f"{_COMMIT}\nfound = ask('reap', go={go}, owner='anna')", json.dumps(spec()))
    return answer


def test_the_reaper_stays_below_its_directories_and_on_their_mount(root: Machine) -> None:
    renders = f"{ROOT}/renders"
    script = f"""
set -e
mkdir -p /srv/precious {renders}/job {renders}/bound {renders}/other
for name in a b c; do touch -d '10 days ago' /srv/precious/$name {renders}/$name {renders}/job/$name; done
mount --bind /srv/precious {renders}/bound
mount -t tmpfs tmpfs {renders}/other
touch -d '10 days ago' {renders}/other/far
ln -s /srv/precious {renders}/link
ln -s ../../precious {renders}/job/up
"""
    root.run(["sh", "-c", script])
    try:
        said, done = reap(root, go=False), reap(root, go=True)

        left = root.run(["find", renders, f"{renders}/job", "-maxdepth", "1", "-type", "f"]).stdout.decode().split()
        assert (said["gone"], done["gone"]["files"], len(left)) == (done["gone"], 4, 2)
        assert sorted(each["path"] for each in done["skipped"]) == [f"{renders}/bound", f"{renders}/other"]
        assert root.run(["ls", "/srv/precious"]).stdout.split() == [b"a", b"b", b"c"]
        assert root.run(["ls", f"{renders}/other"]).stdout.split() == [b"far"]
    finally:
        root.run(["umount", f"{renders}/bound", f"{renders}/other"])
        root.run(["rm", "-rf", "/srv/precious"])


_FOLLOW = """
begun = ask("run", job=words[1], owner="anna", host="gpu-1")
lines, after, result = [], begun.get("cursor", ""), None
for _ in range(60):
    if "refused" in begun: break
    news = ask("job", job=words[1], after=after, wait_s=1.0)
    lines += [each["text"] for each in news["lines"]]
    after, result = news["cursor"], news["result"]
    if result is not None: break
found = {"begun": begun, "lines": lines, "result": result, "logs": ask("logs", service=words[1], lines=5)}
"""


@pytest.fixture
def jobs(root: Machine) -> Iterator[Machine]:
    units = {
        "recon-job-quick": "ExecStart=/usr/bin/true",
        "recon-job-refill": "ExecStart=/bin/sh -c 'echo one; sleep 1; printf \"\\\\033[31mtwo\\\\n\"'",
        "recon-job-broken": "ExecStart=/bin/sh -c 'echo no; exit 7'",
    }
    for name, line in units.items():
        text = f"[Service]\nType=oneshot\n{line}\n"
        root.run(["tee", f"/etc/systemd/system/{name}.service"], stdin=text.encode())
    root.run(["systemctl", "daemon-reload"])
    yield root
    root.run(["rm", *(f"/etc/systemd/system/{name}.service" for name in units)])
    root.run(["systemctl", "daemon-reload"])


def follow(machine: Machine, name: str) -> dict[str, Any]:
    declared = spec(jobs=[job("quick"), job("refill"), job("broken")], units=[member("worker")])
    answer: dict[str, Any] = play(machine, _COMMIT + _FOLLOW, json.dumps(declared), name)
    return answer


def test_a_job_is_followed_to_its_end_however_short_it_is(jobs: Machine) -> None:
    quick, refill, broken, again = (follow(jobs, name) for name in ("quick", "refill", "broken", "broken"))

    results = [each["result"] for each in (quick, refill, broken, again)]
    failed = {"ok": False, "text": "exit status 7"}
    assert results == [{"ok": True, "text": "done"}, {"ok": True, "text": "done"}, failed, failed]
    assert [line for line in refill["lines"] if line in ("one", "\\x1b[31mtwo")] == ["one", "\\x1b[31mtwo"]
    assert again["lines"].count("no") == 1
    assert "no" in [each["text"] for each in again["logs"]["lines"]]


def test_a_loop_is_refused_by_name(jobs: Machine) -> None:
    assert follow(jobs, "worker")["begun"] == {"refused": "REC7393"}


def test_a_journal_is_followed_by_its_cursor(jobs: Machine) -> None:
    declared = spec(jobs=[job("refill")])
    found = play(
        jobs,
        _COMMIT
        + """
machine.run(["systemctl", "start", "recon-job-refill.service"], 20.0)
first = ask("logs", service="refill", lines=2)
machine.run(["systemctl", "start", "recon-job-refill.service"], 20.0)
news = ask("logs", service="refill", after=first["cursor"], wait_s=5.0)
nothing = ask("logs", service="refill", after=news["cursor"])
found = [[each["text"] for each in answer["lines"]] for answer in (first, news, nothing)]
""",
        json.dumps(declared),
    )

    assert (len(found[0]), found[1].count("one"), found[2]) == (2, 1, [])

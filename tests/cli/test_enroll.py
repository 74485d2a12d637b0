"""`recon enroll` and `recon doctor`, over a real SSH server with an agent that answers by rote, and in simulation."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.app import run
from reconciler.enrolment.asked import Ears, Wish
from reconciler.enrolment.enrol import Enrolment, enroll
from reconciler.errors import HostError, ReconError, RefusedError, UnreachableError, UsageError
from reconciler.hosts.bundle import Bundle, pack
from reconciler.load.fleet import load_fleet
from reconciler.model.survey import Check
from reconciler.sim.deeds import perform
from tests.hosts import fake_sshd
from tests.hosts.fake_sshd import Script, Sshd
from tests.planner.surveys import survey_document
from tests.scenarios.sim_world import SimWorld

FLEET = "version: 1\nname: studio\ndefaults: {ssh: {user: recon, key: key}}\n"


def agent(survey: dict[str, Any], made: dict[str, Any]) -> Bundle:
    """Return an agent that answers by rote, with the clock of this computer."""
    dispatch = f"""
        import json, time

        SURVEY = json.loads({json.dumps(survey)!r})
        MADE = json.loads({json.dumps(made)!r})


        def handle(machine, verb, args, ctx):
            if verb == "survey":
                return dict(SURVEY, wall_time=time.time())
            open(NOTE, "a").write(json.dumps(args) + "\\n")
            return MADE
        """
    return pack(
        {
            "recon_agent/__init__.py": "",
            "recon_agent/dispatch.py": textwrap.dedent(dispatch),
            "recon_agent/real.py": "class RealMachine:\n    pass\n",
            "recon_agent/user_scope.py": "def UserMachine(machine):\n    return machine\n",
            "pynvml.py": "",
        }
    )


MADE = {"done": ["the agent", "the account recon"], "kept": ["the rule"], "problem": None}


@dataclass
class Bed:
    root: Path
    sshd: Sshd
    checks: list[Check] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answer: bool = True
    made: dict[str, Any] = field(default_factory=lambda: dict(MADE))
    survey: dict[str, Any] = field(default_factory=survey_document)

    @property
    def file(self) -> Path:
        return self.root / "desired/hosts/h-1.yaml"

    @property
    def orders(self) -> list[Any]:
        note = self.root / "note"
        return [json.loads(line) for line in note.read_text().splitlines()] if note.exists() else []

    def wish(self, **over: Any) -> Wish:
        return replace(Wish("127.0.0.1", "h-1", user="recon", port=self.sshd.port), **over)

    def enroll(self, **over: Any) -> Enrolment:
        bundle = agent(self.survey, self.made)
        files = {**bundle.files}
        files["recon_agent/dispatch.py"] += f"\n\nNOTE = {str(self.root / 'note')!r}\n"
        ears = Ears(self.checks.append, self.steps.append, self._confirm)
        return enroll(self.root, self.wish(**over), ears, bundle=pack(files))

    def _confirm(self, shown: str) -> bool:
        self.asked.append(shown)
        return self.answer

    def refused(self, kind: type[ReconError], **over: Any) -> tuple[str, str]:
        with pytest.raises(kind) as caught:
            self.enroll(**over)
        assert type(caught.value) is kind
        return caught.value.problems[0].code, caught.value.problems[0].detail


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    (tmp_path / "desired").mkdir()
    (tmp_path / "desired/fleet.yaml").write_text(FLEET)
    with fake_sshd.running(fake_sshd.a_key(tmp_path / "key")) as sshd:
        yield Bed(tmp_path, sshd)


ROOTLESS = {"missing": [], "subuids": 65536, "subgids": 65536, "manager": True, "bus": True}


def of_a_user(bed: Bed, **over: Any) -> dict[str, Any]:
    """Let the host answer as to a login without any right, and return what the command line says."""
    told = {"uid": {"value": 1000}, "user": {"value": "solo"}, "lingers": {"value": True}, "mode": "installed"}
    bed.survey = survey_document(**told, rootless={"value": {**ROOTLESS, **over}})
    bed.made = {"done": ["the agent"], "kept": [], "problem": None}
    return {"scope": "user", "user": None, "ssh_user": "solo"}


def test_a_host_of_one_user_gets_the_agent_alone_and_its_file_says_whose_it_is(bed: Bed) -> None:
    bed.enroll(**of_a_user(bed))

    host = load_fleet(bed.root).hosts["h-1"]
    assert (host.scope, host.ssh.user) == ("user", "solo")
    assert bed.orders == [{"user": None, "key": None, "check": False}]
    assert bed.steps[-1] == "proven: solo logs in and the agent runs in its own manager, without root"
    assert {check.name for check in bed.checks} >= {"lingering", "manager", "bus", "uidmap", "subids"}
    assert "privilege" not in {check.name for check in bed.checks}


def test_a_user_who_lacks_something_is_refused_and_nothing_is_made(bed: Bed) -> None:
    code, detail = bed.refused(RefusedError, **of_a_user(bed, subuids=0, missing=["newuidmap"]))

    assert (code, bed.orders, bed.file.exists()) == ("REC7427", [], False)
    assert detail.startswith("uidmap, subids failed; nothing was changed")


def test_a_login_that_is_root_after_all_is_no_host_of_a_user(bed: Bed) -> None:
    wish = of_a_user(bed)
    bed.survey = {**bed.survey, "uid": {"value": 0}}

    assert bed.refused(HostError, **wish)[0] == "REC7428"
    assert not bed.file.exists()


def test_a_new_host_is_checked_made_proven_and_written_with_its_key_pinned(bed: Bed) -> None:
    ended = bed.enroll()

    fingerprint = bed.sshd.host_key.fingerprint
    assert bed.asked == [f"127.0.0.1 shows {bed.sshd.host_key.get_name()} {fingerprint}"]
    assert [check.name for check in bed.checks][:3] == ["ssh", "python", "privilege"]
    assert bed.checks[0].text == f"root@127.0.0.1, port {bed.sshd.port}; {fingerprint}"
    assert {check.verdict for check in bed.checks} == {"ok"}
    assert bed.sshd.logins == ["root", "recon"]
    assert bed.orders == [{"user": "recon", "key": f"{public(bed)} recon studio", "check": False}]
    assert bed.steps == [
        "made on the host: the agent",
        "made on the host: the account recon",
        "proven: recon logs in and the agent runs as root",
    ]
    assert ended == Enrolment(
        "desired/hosts/h-1.yaml", bed.file.read_text(), True, ("the agent", "the account recon"), ("the rule",)
    )
    assert bed.file.read_text() == textwrap.dedent(f"""\
        # yaml-language-server: $schema=../../schema/host.schema.json
        # NVIDIA H200. Written by recon enroll from what it saw; change it as you like.
        address: 127.0.0.1
        host_key: {bed.sshd.pinned}
        ssh: {{port: {bed.sshd.port}}}
        memory: {{kind: discrete, capacity: 140GiB}}
        reserve: 2GiB # never given to a coven

        # What it runs. Without this line nothing is started; may_run: [...] installs more covens to switch to.
        # coven: NAME
        """)
    host = load_fleet(bed.root).hosts["h-1"]
    assert (host.host_key, host.ssh.user, host.ssh.port, host.slots[0].coven) == (
        bed.sshd.pinned,
        "recon",
        bed.sshd.port,
        None,
    )


def public(bed: Bed) -> str:
    import paramiko

    key = paramiko.PKey.from_path(bed.root / "key")
    return f"{key.get_name()} {key.get_base64()}"


def test_typed_again_the_pinned_key_is_used_and_the_file_is_left_alone(bed: Bed) -> None:
    bed.enroll()
    bed.file.write_text(bed.file.read_text() + "# mine\n")
    bed.asked.clear()

    ended = bed.enroll()

    assert (ended.written, bed.asked) == (False, [])
    assert bed.file.read_text().endswith("# mine\n")


def test_a_key_that_differs_from_the_pinned_one_is_refused_as_always(bed: Bed) -> None:
    bed.enroll()
    other = fake_sshd.a_key(bed.root / "other")
    bed.file.write_text(bed.file.read_text().replace(bed.sshd.pinned, f"{other.get_name()} {other.get_base64()}"))

    assert bed.refused(UnreachableError)[0] == "REC6002"
    assert bed.refused(RefusedError, host_key=bed.sshd.host_key.fingerprint)[0] == "REC7420"
    assert bed.sshd.logins == ["root", "recon"]


def test_the_fingerprint_on_the_command_line_needs_no_answer(bed: Bed) -> None:
    bed.enroll(host_key=bed.sshd.host_key.fingerprint)

    assert bed.asked == []
    assert f"host_key: {bed.sshd.pinned}" in bed.file.read_text()


def test_another_fingerprint_than_the_named_one_is_refused_before_any_login(bed: Bed) -> None:
    code, detail = bed.refused(RefusedError, host_key="SHA256:" + "A" * 43)

    assert code == "REC7420"
    assert bed.sshd.host_key.fingerprint in detail
    assert (bed.sshd.logins, bed.file.exists()) == ([], False)


def test_a_key_that_nobody_confirms_is_not_trusted(bed: Bed) -> None:
    bed.answer = False

    assert bed.refused(RefusedError)[0] == "REC7420"
    assert (bed.sshd.logins, bed.file.exists()) == ([], False)


def other_key(bed: Bed) -> str:
    key = fake_sshd.a_key(bed.root / "other")
    return f"{key.get_name()} {key.get_base64()}"


@pytest.fixture
def known_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the known_hosts file of whoever runs recon."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/.ssh").mkdir(parents=True)
    return tmp_path / "home/.ssh/known_hosts"


def test_a_line_that_revokes_another_key_vouches_for_none(bed: Bed, known_hosts: Path) -> None:
    known_hosts.write_text(f"@revoked * {other_key(bed)}\n")
    bed.answer = False

    assert bed.refused(RefusedError)[0] == "REC7420"
    assert bed.asked == [f"127.0.0.1 shows {bed.sshd.host_key.get_name()} {bed.sshd.host_key.fingerprint}"]
    assert (bed.sshd.logins, bed.file.exists()) == ([], False)


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_revoked_key_is_refused_whoever_vouches_for_it(
    bed: Bed, known_hosts: Path, is_known: bool, is_named: bool
) -> None:
    known = f"[127.0.0.1]:{bed.sshd.port} {bed.sshd.pinned}\n" if is_known else ""
    known_hosts.write_text(f"{known}@revoked * {bed.sshd.pinned}\n")
    named = bed.sshd.host_key.fingerprint if is_named else None

    assert bed.refused(UnreachableError, host_key=named)[0] == "REC6003"
    assert (bed.asked, bed.sshd.logins, bed.file.exists()) == ([], [], False)


def test_a_key_in_known_hosts_is_pinned_without_a_question_beside_a_revoked_one(bed: Bed, known_hosts: Path) -> None:
    place = f"[127.0.0.1]:{bed.sshd.port}"
    revoked = other_key(bed)
    known_hosts.write_text(f"{place} {revoked}\n{place} {bed.sshd.pinned}\n@revoked * {revoked}\n")

    bed.enroll()

    assert bed.asked == []
    assert f"host_key: {bed.sshd.pinned}" in bed.file.read_text()


def test_with_check_nothing_is_written_and_only_root_logs_in(bed: Bed) -> None:
    ended = bed.enroll(check=True)

    assert (ended.written, bed.file.exists()) == (False, False)
    assert bed.orders[0]["check"] is True
    assert bed.sshd.logins == ["root"]
    assert bed.steps == []


def test_a_host_that_is_not_fit_is_refused_and_left_alone(bed: Bed) -> None:
    bed.survey["podman"] = {"unknown": "podman is not installed"}

    code, detail = bed.refused(RefusedError)

    assert (code, detail) == ("REC7427", "podman failed; nothing was changed on the host or here")
    assert [check.fix for check in bed.checks if check.verdict == "failed"] == ["apt install podman crun"]
    assert (bed.orders, bed.file.exists()) == ([], False)


def test_a_failure_in_the_middle_names_what_is_left_on_the_host_and_writes_nothing(bed: Bed) -> None:
    problem = {"code": "REC7426", "summary": "the host could not be enrolled", "detail": "visudo: no", "fix": ""}
    bed.made = {"done": ["the agent", "the account recon"], "kept": [], "problem": problem}

    code, detail = bed.refused(HostError)

    assert (code, detail) == (
        "REC7426",
        "visudo: no; left on the host: the agent; the account recon; nothing was written here",
    )
    assert not bed.file.exists()


def test_a_new_login_that_does_not_work_is_told_and_nothing_is_written(bed: Bed) -> None:
    bed.sshd.script = Script(deny_sudo=True)
    bed.survey["uid"] = {"value": 1000}

    code, detail = bed.refused(HostError)

    assert code == "REC7428"
    assert detail == (
        "recon logs in and may not become root; left on the host: the agent; the account recon;"
        " nothing was written here"
    )
    assert not bed.file.exists()


def test_a_host_that_does_not_answer_is_exit_8(bed: Bed) -> None:
    code, _ = bed.refused(UnreachableError, port=1)

    assert code == "REC6007"


@pytest.mark.parametrize(
    ("over", "code"),
    [
        ({"name": "Bad"}, "REC3001"),
        ({"name": "../x"}, "REC3001"),
        ({"address": "-oProxy"}, "REC3010"),
        ({"address": "a b"}, "REC3010"),
        ({"user": "root"}, "REC7422"),
        ({"scope": "user", "ssh_user": "solo"}, "REC7495"),
        ({"scope": "user", "user": None}, "REC7495"),
        ({"user": "a;b"}, "REC7422"),
        ({"ssh_user": "x y"}, "REC7422"),
        ({"host_key": "MD5:aa"}, "REC7422"),
        ({"host_key": "SHA256:short"}, "REC7422"),
        ({"jump": "-J evil"}, "REC7422"),
    ],
)
def test_what_is_wrong_with_the_command_line_is_told_before_anything_is_asked(
    bed: Bed, over: dict[str, Any], code: str
) -> None:
    assert bed.refused(UsageError, **over)[0] == code
    assert bed.sshd.connections == 0


def test_a_private_key_that_is_not_there_or_open_to_others_is_refused(bed: Bed) -> None:
    (bed.root / "open").write_text("x")
    (bed.root / "open").chmod(0o644)

    assert bed.refused(RefusedError, key="nowhere")[0] == "REC7023"
    assert bed.refused(RefusedError, key="open")[0] == "REC7023"


def test_a_name_or_a_machine_that_git_has_already_is_refused(bed: Bed) -> None:
    bed.enroll()

    assert bed.refused(RefusedError, address="192.0.2.1")[0] == "REC7421"
    assert bed.refused(RefusedError, name="h-2")[0] == "REC7423"


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    SimWorld(tmp_path)

    def call(*argv: str) -> tuple[int, str, str]:
        code = run(["-C", str(tmp_path), *argv])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_a_simulated_host_is_enrolled_and_planned(said: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = said("enroll", "192.0.2.40", "--name", "spark-9", "--check")
    assert (code, "would write desired/hosts/spark-9.yaml" in out) == (0, True)
    assert not (tmp_path / "desired/hosts/spark-9.yaml").exists()

    code, out, _ = said("enroll", "192.0.2.40", "--name", "spark-9")
    assert (code, out.splitlines()[-2]) == (0, "wrote desired/hosts/spark-9.yaml")
    assert said("plan", "--host", "spark-9")[0] == 0

    assert said("enroll", "192.0.2.40", "--name", "spark-9")[1].splitlines()[-2] == "kept desired/hosts/spark-9.yaml"


def test_doctor_says_all_is_well(said: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = said("doctor", "--host", "h-1")
    assert (code, out.splitlines()[:2]) == (0, ["h-1: ok", "  ok      ssh          simulated"])


def test_doctor_names_what_failed_and_who_did_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = SimWorld(tmp_path)
    with world.fleet.open("h-1") as machine:
        machine.remove("/etc/cdi/nvidia.yaml")
    perform(world.fleet, "h-2", "down", [])

    assert run(["-C", str(tmp_path), "doctor", "--host", "h-2"]) == 8
    assert "h-2: failed\n  failed  ssh          [REC6007]" in capsys.readouterr().out
    assert run(["-C", str(tmp_path), "doctor", "-o", "json"]) == 3

    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["status"], document["exit_code"]) == ("doctor", "failed", 3)
    assert document["hosts"]["h-2"]["code"] == "REC6007"
    (cdi,) = [check for check in document["hosts"]["h-1"]["checks"] if check["verdict"] == "failed"]
    assert (cdi["name"], cdi["fix"]) == ("cdi", "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml")


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (["adopt", "h-1"], 3, "REC7431"),
        (["adopt", "h-1", "nobody"], 3, "REC7431"),
        (["adopt", "nowhere"], 64, "REC7020"),
        (["adopt", "h-1", "a b"], 64, "REC7430"),
        (["adopt", "h-1", "--coven", "Bad"], 64, "REC3001"),
    ],
)
def test_what_cannot_be_adopted_is_named(
    said: Callable[..., tuple[int, str, str]], words: list[str], exit_code: int, code: str
) -> None:
    ended, _, told = said(*words)

    assert (ended, f"error[{code}]" in told) == (exit_code, True)

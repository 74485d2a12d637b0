"""Whether a host is fit: every check by itself, and that unknown is never fine."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.desired import Platform
from reconciler.model.survey import Check, Checkup
from reconciler.planner.checkup import capacity_of, judge
from tests.planner.surveys import GIB, GPU, survey

CDI = "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"


def judged(offset_s: float | None = 0.0, **over: Any) -> tuple[Check, ...]:
    return judge(survey(**over), offset_s=offset_s, owners=("lab/h-1", "lab/old"), platform=Platform())


def bad(offset_s: float | None = 0.0, **over: Any) -> list[tuple[str, str, str, str]]:
    found = [check for check in judged(offset_s, **over) if check.verdict != "ok"]
    return [(check.name, check.verdict, check.text, check.fix) for check in found]


def test_a_host_that_has_everything_is_told_so_line_by_line() -> None:
    assert [(check.name, check.verdict, check.text) for check in judged()] == [
        ("python", "ok", "3.11.2"),
        ("privilege", "ok", "the agent runs as root"),
        ("systemd", "ok", "257"),
        ("podman", "ok", "5.4.2; units can be tried in /run"),
        ("cgroups", "ok", "version 2"),
        ("driver", "ok", "580.95.05"),
        ("gpus", "ok", "1 GPU (NVIDIA H200), discrete memory, 140GiB"),
        ("cdi", "ok", "2 devices in /etc/cdi/nvidia.yaml"),
        ("clock", "ok", "synchronised, and agrees with this computer's"),
        ("disk", "ok", "/: 50GiB free"),
        ("disk", "ok", "/var/lib/containers: 500GiB free"),
        ("fleets", "ok", "nothing of recon's is there"),
    ]


@pytest.mark.parametrize(
    ("over", "name", "verdict", "text", "fix"),
    [
        ({"python": "3.8.10"}, "python", "failed", "3.8.10; the agent needs 3.9", "install a newer python3"),
        ({"systemd": {"value": 249}}, "systemd", "failed", "249; the files in git are written for 254", "upgrade the"),
        ({"podman": {"unknown": "podman is not installed"}}, "podman", "failed", "not installed", "apt install podman"),
        ({"podman": {"value": "4.9.3"}}, "podman", "failed", "4.9.3; recon needs 5.3 or newer", "upgrade podman"),
        ({"podman": {"unknown": "no answer"}}, "podman", "warning", "not known: no answer", "podman --version"),
        ({"cgroup2": {"value": False}}, "cgroups", "failed", "version 1: recon cannot tell", "boot without"),
        ({"driver": {"unknown": "not loaded"}}, "driver", "failed", "not loaded", "nvidia-smi; install the NVIDIA"),
        ({"gpus": {"value": []}}, "gpus", "failed", "the host has no GPU", "lspci | grep -i nvidia"),
        ({"gpus": {"unknown": "NVML hangs"}}, "gpus", "failed", "NVML hangs", "nvidia-smi"),
        ({"memory_class": {"unknown": "no figure"}}, "gpus", "warning", "1 GPU (NVIDIA H200), of a kind", "declare it"),
        ({"cdi": {"value": {"devices": [], "files": []}}}, "cdi", "failed", "no specification offers a GPU", CDI),
        ({"gpus": {"value": [GPU, GPU | {"index": 1, "uuid": "GPU-2"}]}}, "cdi", "failed", "does not offer GPU 1", CDI),
        ({"cdi": {"unknown": "odd style"}}, "cdi", "warning", "not known: odd style", CDI),
        (
            {"synchronized": {"value": False}},
            "clock",
            "warning",
            "agrees with this computer's, and nothing",
            "on the h",
        ),
        ({"synchronized": {"unknown": "no bus"}}, "clock", "warning", "not known: no bus", "timedatectl"),
        ({"disks": [{"path": "/", "free": {"value": 10}}]}, "disk", "failed", "/: 10B free; recon's own", "make room"),
        (
            {"disks": [{"path": "/x", "free": {"value": 6 * GIB}}]},
            "disk",
            "warning",
            "/x: 6GiB free; an",
            "podman image",
        ),
        ({"disks": [{"path": "/x", "free": {"unknown": "gone"}}]}, "disk", "warning", "not known: gone", ""),
        (
            {"owners": {"value": {"other/h-1": 3}}},
            "fleets",
            "failed",
            "files of another fleet or name are",
            "when it is",
        ),
        ({"owners": {"unknown": "denied"}}, "fleets", "warning", "not known: denied", ""),
        ({"uid": {"unknown": "no /proc"}}, "privilege", "warning", "not known: no /proc", ""),
    ],
)
def test_what_is_missing_is_named_with_what_to_type(
    over: dict[str, Any], name: str, verdict: str, text: str, fix: str
) -> None:
    ((found, judged_as, said, typed),) = bad(**over)

    assert (found, judged_as) == (name, verdict)
    assert said.startswith(text)
    assert typed.startswith(fix)


@pytest.mark.parametrize(
    ("offset_s", "verdict", "text"),
    [
        (1.9, None, ""),
        (-2.5, "warning", "2.5s behind this computer's clock; schedules go by the host's"),
        (61.0, "failed", "1m1s ahead of this computer's clock; schedules go by the host's"),
    ],
)
def test_a_clock_is_judged_by_how_far_it_is_off(offset_s: float, verdict: str | None, text: str) -> None:
    found = [(each[1], each[2]) for each in bad(offset_s)]

    assert found == ([(verdict, text)] if verdict else [])


def test_a_user_without_root_is_a_warning_that_says_what_works() -> None:
    ((name, verdict, text, _),) = bad(uid={"value": 1000}, user={"value": "ada"}, lingers={"value": True})

    assert (name, verdict) == ("privilege", "warning")
    assert text == (
        "ada may not become root: recon can look, and change nothing outside of the user's own units;"
        " its own units start with the host"
    )


@pytest.mark.parametrize(
    ("lingers", "verdict", "text", "fix"),
    [
        ({"value": True}, "ok", "units of ada start with the host", ""),
        (
            {"value": False},
            "failed",
            "units of ada end with its last login and do not start with the host",
            "on the host: loginctl enable-linger ada",
        ),
        ({"unknown": "denied"}, "warning", "not known: denied", ""),
    ],
)
def test_a_login_whose_own_units_are_to_run_must_linger(
    lingers: dict[str, Any], verdict: str, text: str, fix: str
) -> None:
    told = survey(uid={"value": 1000}, user={"value": "ada"}, lingers=lingers)
    found = judge(told, offset_s=0.0, owners=("lab/h-1",), platform=Platform(), scope="user")[1]

    assert found.model_dump() == {"name": "lingering", "verdict": verdict, "text": text, "fix": fix}


def test_files_of_this_host_under_both_of_its_names_are_its_own() -> None:
    last = judged(owners={"value": {"lab/h-1": 5, "lab/old": 1}})[-1]

    assert (last.verdict, last.text) == ("ok", "6 files of lab/h-1")


def test_the_memory_of_a_host_that_shares_it_is_the_hosts() -> None:
    assert capacity_of(survey(memory_class={"value": "unified"})) == 256 * GIB
    assert capacity_of(survey(gpus={"value": []})) is None
    assert capacity_of(survey(gpus={"value": [GPU | {"memory": {"unknown": "?"}}]})) is None


def test_a_checkup_is_as_bad_as_its_worst_check() -> None:
    def verdict(**over: Any) -> str:
        return Checkup(host="h-1", checks=judged(**over)).verdict

    assert verdict() == "ok"
    assert verdict(synchronized={"value": False}) == "warning"
    assert verdict(synchronized={"value": False}, gpus={"value": []}) == "failed"


def rootless(**over: Any) -> dict[str, tuple[str, str]]:
    has = {"missing": [], "subuids": 65536, "subgids": 65536, "manager": True, "bus": True}
    told = survey(user={"value": "ada"}, lingers={"value": True}, rootless={"value": {**has, **over}})
    found = judge(told, offset_s=0.0, owners=("lab/h-1",), platform=Platform(), scope="user")
    names = ("manager", "bus", "uidmap", "subids")
    return {check.name: (check.verdict, check.fix) for check in found if check.name in names}


def test_a_user_with_all_that_containers_without_root_need_is_fit() -> None:
    assert rootless() == {"manager": ("ok", ""), "bus": ("ok", ""), "uidmap": ("ok", ""), "subids": ("ok", "")}


def test_a_manager_that_does_not_run_is_not_said_to_lack_a_bus_too() -> None:
    assert "bus" not in rootless(manager=False, bus=False)


@pytest.mark.parametrize(
    ("over", "name", "fix"),
    [
        (
            {"manager": False},
            "manager",
            "as root on the host: apt install dbus-user-session && loginctl enable-linger ada",
        ),
        (
            {"bus": False},
            "bus",
            "as root on the host: apt install dbus-user-session; then as ada: systemctl --user start dbus.socket",
        ),
        ({"missing": ["newgidmap"]}, "uidmap", "as root on the host: apt install uidmap"),
        (
            {"subuids": 0},
            "subids",
            "as root on the host: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada",
        ),
        (
            {"subgids": 65535},
            "subids",
            "as root on the host: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada",
        ),
    ],
)
def test_what_a_user_lacks_is_failed_with_what_an_administrator_types(
    over: dict[str, Any], name: str, fix: str
) -> None:
    found = rootless(**over)

    assert found[name] == ("failed", fix)
    assert {verdict for other, (verdict, _) in found.items() if other != name} == {"ok"}


def test_what_a_user_has_is_not_asked_of_root() -> None:
    found = judge(survey(), offset_s=0.0, owners=("lab/h-1",), platform=Platform())

    assert {"manager", "bus", "uidmap", "subids", "rootless", "lingering"} & {check.name for check in found} == set()

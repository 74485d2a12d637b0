"""Who a process is, by where the kernel keeps it."""

from __future__ import annotations

import pytest

from reconciler.agent import processes
from reconciler.agent.processes import Place
from tests.agent.fakehost import Denied, FakeHost

ID = "a" * 64
OTHER = "b" * 64


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (f"/system.slice/recon-a-x.service/libpod-payload-{ID}", Place("recon-a-x.service", ID)),
        ("/system.slice/recon-a-x.service/runtime", Place("recon-a-x.service", None)),
        (f"/machine.slice/libpod-{ID}.scope/container", Place(None, ID)),
        (f"/machine.slice/libpod-conmon-{ID}.scope", Place(None, None)),
        (f"/system.slice/docker-{ID}.scope", Place(None, ID)),
        (f"/docker/{ID}", Place(None, ID)),
        (f"/kubepods.slice/kubepods-podX.slice/cri-containerd-{ID}.scope", Place(None, ID)),
        ("/user.slice/user-1000.slice/session-3.scope", Place(None, None)),
        ("/system.slice/system-llama.slice/llama@qwen3\\x2d8b.service", Place("llama@qwen3\\x2d8b.service", None)),
        ("/system.slice/_cpu.service", Place("cpu.service", None)),
        (None, Place(None, None)),
    ],
)
def test_unit_and_container_come_from_the_path(path: str | None, place: Place) -> None:
    assert processes.place_of(path) == place


def test_a_users_unit_never_passes_for_the_hosts_unit_of_the_same_name() -> None:
    path = f"/user.slice/user-1000.slice/user@1000.service/app.slice/recon-a-x.service/libpod-payload-{ID}"

    assert processes.place_of(path) == Place("user@1000.service/recon-a-x.service", ID)


def test_a_name_made_inside_a_container_or_a_service_never_passes_for_the_hosts() -> None:
    inside = f"/system.slice/miner.service/libpod-payload-{ID}/system.slice/recon-a-x.service"

    assert processes.place_of(inside) == Place("miner.service", ID)
    assert processes.place_of("/system.slice/miner.service/recon-a-x.service") == Place("miner.service", None)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/system.slice/x.service\n", "/system.slice/x.service"),
        ("0::/system.slice/x.service (deleted)\n", "/system.slice/x.service"),
        ("9:name=systemd:/\n1:cpu:/\n0::/system.slice/x.service\n", "/system.slice/x.service"),
        ("9:name=systemd:/system.slice/x.service\n0::/\n", "/system.slice/x.service"),
        ("0::/\n", "/"),
        ("0::/a:b/x.service\n", "/a:b/x.service"),
        ("", None),
    ],
)
def test_the_group_is_the_unified_one_unless_that_says_nothing(text: str, path: str | None) -> None:
    assert processes.cgroup_path(text) == path


def a_process(
    pid: int, group: str, *, comm: str = "python3", parent: int = 1, state: str = "S", uid: int = 1000
) -> dict[str, str]:
    rest = " ".join(["0"] * 17)
    return {
        f"/proc/{pid}/stat": f"{pid} ({comm}) {state} {parent} {rest} 365339 0 0\n",
        f"/proc/{pid}/status": f"Name:\t{comm}\nUid:\t{uid}\t0\t0\t0\n",
        f"/proc/{pid}/cgroup": f"0::{group}\n",
    }


def test_a_holder_is_described_whole() -> None:
    host = FakeHost({**a_process(4242, f"/system.slice/recon-a-x.service/libpod-payload-{ID}", state="D")})

    assert processes.describe(host, {"pid": 4242, "bytes": 512, "kind": "C+G"}) == {
        "pid": 4242,
        "started": 365339,
        "bytes": {"value": 512},
        "kind": "C+G",
        "unit": "recon-a-x.service",
        "container": ID,
        "comm": "python3",
        "uid": 1000,
        "state": "D",
    }


def test_a_holder_that_is_gone_stays_in_the_list_and_its_unknown_bytes_are_unknown() -> None:
    assert processes.describe(FakeHost(), {"pid": 4242, "bytes": None, "kind": "C"}) == {
        "pid": 4242,
        "started": None,
        "bytes": {"unknown": "the driver does not say how much"},
        "kind": "C",
        "unit": None,
        "container": None,
        "comm": "",
        "uid": None,
        "state": "gone",
    }


def test_a_holder_that_may_not_be_looked_at_is_of_unknown_state() -> None:
    host = FakeHost({**a_process(7, "/system.slice/x.service"), "/proc/7/cgroup": Denied()})

    described = processes.describe(host, {"pid": 7, "bytes": 1, "kind": "C"})

    assert (described["state"], described["unit"]) == ("unknown", None)


def test_a_name_with_parentheses_and_escapes_is_read_to_its_last_parenthesis_and_made_harmless() -> None:
    host = FakeHost({**a_process(7, "/init.scope", comm="x) R 1 (\x1b[2J")})

    described = processes.describe(host, {"pid": 7, "bytes": 1, "kind": "C"})

    assert (described["comm"], described["state"], described["started"]) == ("x) R 1 (\\x1b[2J", "S", 365339)


def test_a_container_outside_of_its_unit_is_found_through_its_keeper() -> None:
    scope = f"/machine.slice/libpod-{ID}.scope/container"
    host = FakeHost(
        {
            **a_process(500, "/system.slice/qdrant.service", comm="conmon"),
            **a_process(502, scope, parent=500),
            **a_process(503, scope, parent=502),
        }
    )

    described = processes.describe(host, {"pid": 503, "bytes": 1, "kind": "C"})

    assert (described["unit"], described["container"]) == ("qdrant.service", ID)


@pytest.mark.parametrize(
    ("comm", "group"),
    [
        ("conmon", f"/machine.slice/libpod-conmon-{ID}.scope"),
        ("bash", "/system.slice/recon-a-x.service"),
        ("conmon", f"/machine.slice/libpod-{OTHER}.scope/container"),
    ],
)
def test_a_container_without_a_keeper_in_a_unit_is_nobodys(comm: str, group: str) -> None:
    host = FakeHost(
        {
            **a_process(500, group, comm=comm),
            **a_process(502, f"/machine.slice/libpod-{ID}.scope/container", parent=500),
        }
    )

    described = processes.describe(host, {"pid": 502, "bytes": 1, "kind": "C"})

    assert (described["unit"], described["container"]) == (None, ID)

"""The whole answer of a host, against its schema and word for word."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.agent import observe
from reconciler.agent.fingerprint import fingerprint, parts, total
from reconciler.agent.machine import Completed, Response
from reconciler.agent.record import seal
from reconciler.model.observed import HostState
from tests.agent.fakehost import Content, FakeHost, Link
from tests.agent.test_files import BODY, HEADER, ONE, a_described
from tests.agent.test_processes import ID, a_process
from tests.builders import a_group, a_member, in_short

REASONING, VISION = a_group("reasoning"), a_group("vision")
MANIFEST: dict[str, Any] = {
    "groups": [REASONING.model_dump(mode="json"), VISION.model_dump(mode="json")],
    "live": {"main": "reasoning"},
    "residents": [a_member("resident", "embed", health=None).model_dump(mode="json")],
    "files": {},
}
TOLD = {**MANIFEST, "groups": [in_short(REASONING), in_short(VISION)], "running": []}
GROUP = "/system.slice/recon-reasoning-vllm.service"
FILES: dict[str, Content] = {
    "/etc/machine-id": "b08dfa6083e7567a1921a715000001fb\n",
    "/proc/sys/kernel/random/boot_id": "3f2c9c9e-0c1d-4a7e-9a54-0d6ffde27a10\n",
    "/proc/sys/kernel/hostname": "spark-1\n",
    "/proc/sys/kernel/osrelease": "6.12.0\n",
    "/proc/meminfo": "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 60 kB\nCached: 50 kB\nSwapFree: 1 kB\n",
    "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release\n",
    "/etc/cdi/nvidia.json": '{"kind": "nvidia.com/gpu", "devices": [{"name": "all"}]}',
    "/etc/containers/systemd/recon": Link(ONE),
    f"{ONE}/recon-reasoning-vllm.container": HEADER + BODY,
    f"{ONE}/manifest.json": seal(MANIFEST),
    f"{ONE}/boot.wants/recon-coven-reasoning.target": Link("/etc/systemd/system/recon-coven-reasoning.target"),
    "/etc/systemd/system/recon-boot.target.wants": Link("/etc/containers/systemd/recon/boot.wants"),
    "/etc/systemd/system/multi-user.target.wants/recon-boot.target": Link("/etc/systemd/system/recon-boot.target"),
    "/var/lib/recon/agent/aa/.ok": "aa\n",
    "/var/lib/recon/txn/t1/outcome.json": seal({"state": "applied"}),
    "/var/lib/containers/storage/overlay-images/images.json": '[{"names": ["example.net/a:1"]}]',
    "/proc/324/environ": b"PATH=/usr/bin\0RECON_CONFIG_HASH=0123456789abcdef\0",
    **a_process(326, f"{GROUP}/libpod-payload-{ID}"),
}
SHOW = (
    "systemctl",
    "show",
    "--property=Id,LoadState,ActiveState,SubState,Result,NRestarts,Job,NeedDaemonReload,"
    "FragmentPath,SourcePath,InvocationID,MainPID,ControlGroup,ExecMainCode,ExecMainStatus",
    "--",
    "recon-*",
    "recon-reasoning-vllm.service",
    "qdrant.service",
)
SHOWN = f"""\
Id=recon-reasoning-vllm.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
NRestarts=0
NeedDaemonReload=no
FragmentPath=/run/systemd/generator/recon-reasoning-vllm.service
SourcePath={ONE}/recon-reasoning-vllm.container
InvocationID=9e15
MainPID=324
ControlGroup={GROUP}

Id=recon-executor.service
LoadState=loaded
ActiveState=active

Id=qdrant.service
LoadState=loaded
ActiveState=active
""".encode()
PROGRAMS = {
    SHOW: Completed(0, SHOWN, b""),
    ("systemctl", "show", "--property=Version"): Completed(0, b"Version=257.8\n", b""),
    ("podman", "--version"): Completed(0, b"podman version 5.4.2\n", b""),
}
NS = {"error": "not_supported", "code": 3}
NVML: dict[str, Any] = {
    "error": None,
    "driver": "580.95.05",
    "library": "libnvidia-ml.so.1",
    "gpus": [
        {
            "index": 0,
            "error": None,
            "uuid": {"ok": "GPU-1"},
            "name": {"ok": "NVIDIA H200"},
            "bus": {"ok": "00000000:18:00.0"},
            "memory": {"ok": {"total": 100, "reserved": 1, "used": 9, "free": 90}},
            "bar1": {"ok": 1},
            "numa_node": NS,
            "addressing": {"ok": 1},
            "recovery_action": {"ok": 0},
            "mig": None,
            "processes": {"ok": [{"pid": 326, "bytes": 9, "kind": "C"}]},
            "suspect": False,
        }
    ],
}
ADDRESSES = {
    "http://127.0.0.1:8000/health": Response(200, b"ok"),
    "http://127.0.0.1:6333/healthz": Response(500, b"no"),
}
ARGS = {
    "shared": [{"unit": "qdrant.service", "health": "http://127.0.0.1:6333/healthz"}],
    "memory": "auto",
    "images": ["example.net/a:1", "example.net/b:1"],
    "deadline_s": 20,
}
CTX = {"digest": "d" * 64, "mode": "streamed", "bundle": {}}


def a_host(**over: Any) -> FakeHost:
    settings: dict[str, Any] = {"programs": dict(PROGRAMS), "addresses": ADDRESSES, "nvml": NVML}
    return FakeHost(dict(FILES), **(settings | over))


def validated(state: dict[str, Any]) -> dict[str, Any]:
    """Check a reply against the schema, strictly, and return what the schema made of it.

    A manifest may hold more than the schema knows, and keeps it: it is what an agent of another version wrote.
    """
    parsed = HostState.model_validate_json(json.dumps(state), strict=True)
    known = parsed.model_dump(mode="json", exclude_unset=True)
    if state["generation"].get("value"):
        known["generation"]["value"]["manifest"] = state["generation"]["value"]["manifest"]
    return known


def test_the_whole_answer_of_a_host_is_what_the_schema_says() -> None:
    state = observe.observe(a_host(), ARGS, CTX)

    assert validated(state) == json.loads(json.dumps(state))
    # Times differ between runs and are not what this test is about.
    assert state.pop("agent").keys() == {"digest", "mode", "elapsed_ms", "probes_ms"}
    assert state["fingerprint_parts"] == parts(state)
    assert state.pop("fingerprint") == total(state.pop("fingerprint_parts"))
    assert fingerprint(state) == fingerprint(observe.observe(a_host(), ARGS, CTX))
    assert state == {
        "protocol": 1,
        "enrolled": True,
        "identity": {
            "machine_id": "b08dfa6083e7567a1921a715000001fb",
            "boot_id": "3f2c9c9e-0c1d-4a7e-9a54-0d6ffde27a10",
            "hostname": "spark-1",
            "kernel": "6.12.0",
            "wall_time": 1_700_000_000.0,
            "boottime_s": 4000.5,
            "systemd": {"value": 257},
            "podman": {"value": "5.4.2"},
            "driver": {"value": "580.95.05"},
            "cdi": {"value": {"devices": ["nvidia.com/gpu=all"], "files": ["/etc/cdi/nvidia.json"]}},
        },
        "memory_class": {"value": "discrete"},
        "meminfo": {"value": {"total": 102400, "free": 10240, "available": 61440, "cached": 51200, "swap_free": 1024}},
        "gpus": {
            "value": [
                {
                    "index": 0,
                    "uuid": "GPU-1",
                    "name": "NVIDIA H200",
                    "bus": "0000:18:00.0",
                    "memory": {"value": {"total": 100, "reserved": 1, "used": 9, "free": 90, "reclaimable": 0}},
                    "processes": {
                        "value": [
                            {
                                "pid": 326,
                                "started": 365339,
                                "bytes": {"value": 9},
                                "kind": "C",
                                "unit": "recon-reasoning-vllm.service",
                                "container": ID,
                                "comm": "python3",
                                "uid": 1000,
                                "state": "S",
                            }
                        ]
                    },
                    "recovery_action": {"value": 0},
                }
            ]
        },
        "units": {
            "value": [
                {
                    "name": "recon-reasoning-vllm.service",
                    "load": "loaded",
                    "active": "active",
                    "sub": "running",
                    "result": "success",
                    "restarts": 0,
                    "job": "",
                    "need_reload": False,
                    "fragment": "/run/systemd/generator/recon-reasoning-vllm.service",
                    "source": f"{ONE}/recon-reasoning-vllm.container",
                    "invocation": "9e15",
                    "main_pid": 324,
                    "cgroup": GROUP,
                    "last_exit": "",
                    "config_hash": {"value": "0123456789abcdef"},
                }
            ]
        },
        "health": {
            "recon-reasoning-vllm.service": {"value": {"ok": True, "status": 200, "detail": ""}},
            "recon-resident-embed.service": {"na": "it has no health address"},
        },
        "shared": [
            {
                "unit": "qdrant.service",
                "load": "loaded",
                "active": "active",
                "health": {"value": {"ok": False, "status": 500, "detail": "no"}},
            }
        ],
        "files": {"value": [a_described("/etc/containers/systemd/recon/recon-reasoning-vllm.container", "committed")]},
        "generation": {"value": {"number": 1, "manifest": {"value": TOLD}, "boot": ["recon-coven-reasoning.target"]}},
        "boot_targets": {"value": ["recon-coven-reasoning.target"]},
        "images": {"value": ["example.net/a:1"]},
        "lease": {"value": None},
        "hold": {"value": None},
        "locks": {"value": []},
        "epoch": {"value": 0},
        "damaged": [],
        "executor": {"active": True, "txid": "t1", "last": {"value": {"state": "applied"}}, "target": None},
        "timings": {},
        "watchdog": {"na": "the committed generation has no watchdog"},
        "schedule": {"na": "no schedule is declared"},
        "registry": {"na": "nobody has registered a job"},
        "models": {"na": "not asked"},
        "outbox": {"na": "the committed generation has no webhooks"},
        "notes": [],
        "down": {"value": {"spiral": None, "coven": None, "forced": None}},
        "spiral": {"na": "not asked"},
    }


def test_looking_changes_nothing_and_starts_nothing_but_questions() -> None:
    host = a_host()
    observe.observe(host, ARGS, CTX)

    assert host.files == FILES
    # Asked only while an executor runs: for which transaction.
    asked = ("systemctl", "show", "--property=Description", "--", "recon-executor.service")
    assert sorted(host.ran) == sorted([*PROGRAMS, asked])


def test_a_bare_host_answers_with_reasons_and_nothing_reads_as_fine() -> None:
    bare = FakeHost({path: FILES[path] for path in FILES if path.startswith(("/etc/machine-id", "/proc/sys/"))})

    state = observe.observe(bare, {}, {"digest": "", "mode": "installed", "bundle": None})

    assert validated(state) == json.loads(json.dumps(state))
    unknown = {key for key, found in state.items() if isinstance(found, dict) and "unknown" in found}
    assert unknown == {"memory_class", "meminfo", "gpus", "units"}
    assert state["units"] == {"unknown": "systemctl show: systemctl: No such file or directory"}
    assert state["identity"]["podman"] == {"unknown": "podman is not installed"}
    assert state["generation"] == {"value": None}
    assert state["enrolled"] is False


def test_a_probe_that_fails_takes_no_other_with_it() -> None:
    class Broken(FakeHost):
        def http(self, *args: Any, **kwargs: Any) -> Response:
            raise RuntimeError("a fault of ours")

    state = observe.observe(Broken(dict(FILES), programs=dict(PROGRAMS), nvml=NVML), ARGS, CTX)

    reason = {"unknown": "the probe failed: RuntimeError: a fault of ours"}
    assert state["health"]["recon-reasoning-vllm.service"] == reason
    assert state["shared"][0]["health"] == reason
    assert state["units"] == observe.observe(a_host(), ARGS, CTX)["units"]


def test_when_systemd_does_not_answer_shared_units_are_unknown_too() -> None:
    host = a_host(programs={SHOW: Completed(124, b"", b"recon: killed at its deadline")})

    state = observe.observe(host, ARGS, CTX)

    assert state["units"] == {"unknown": "systemctl show: recon: killed at its deadline"}
    assert (state["shared"][0]["load"], state["shared"][0]["active"]) == ("unknown", "unknown")


def test_the_same_host_has_the_same_fingerprint_whoever_looks() -> None:
    by_plan = observe.observe(a_host(), ARGS, CTX)["fingerprint"]
    host = a_host()
    host.programs[SHOW[:-1]] = PROGRAMS[SHOW]
    under_the_lease = observe.observe(host, {"memory": "discrete"}, {"digest": "", "mode": "installed"})["fingerprint"]

    assert under_the_lease == by_plan


@pytest.mark.parametrize("content", [None, "\n"])
def test_a_machine_that_does_not_say_which_it_is_is_refused(content: str | None) -> None:
    host = a_host()
    del host.files["/etc/machine-id"]
    if content is not None:
        host.files["/etc/machine-id"] = content

    with pytest.raises(observe.IdentityError, match="/etc/machine-id"):
        observe.observe(host, ARGS, CTX)


@pytest.mark.parametrize("free", [101, -1, (1 << 64) - 5])
def test_a_free_figure_that_cannot_be_is_unknown_and_never_free(free: int) -> None:
    gpu = NVML["gpus"][0] | {"memory": {"ok": {"total": 100, "reserved": 1, "used": 9, "free": free}}}

    state = observe.observe(a_host(nvml=NVML | {"gpus": [gpu]}), ARGS, CTX)

    said = f"NVML says that {free} of 100 bytes are free, which cannot be"
    assert state["gpus"]["value"][0]["memory"] == {"unknown": said}

"""Which kind of memory a host has, and what meminfo says."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import memory
from tests.agent.fakehost import FakeHost

NS = {"error": "not_supported", "code": 3}
MISSING = {"error": "not_found", "code": 13}
FIGURES = {"ok": {"total": 10, "reserved": 1, "used": 2, "free": 7}}


def a_gpu(name: str = "NVIDIA X", **over: Any) -> dict[str, Any]:
    gpu = {"name": {"ok": name}, "memory": FIGURES, "numa_node": NS, "addressing": {"ok": 0}, "bar1": {"ok": 256}}
    return gpu | {"mig": None} | over


@pytest.mark.parametrize(
    ("gpu", "kind"),
    [
        (a_gpu("NVIDIA H200"), "discrete"),
        (a_gpu("NVIDIA RTX PRO 6000 Blackwell", addressing={"ok": 1}), "discrete"),
        (a_gpu("NVIDIA GH200 480GB", numa_node={"ok": 1}, addressing={"ok": 2}), "gh200"),
        (a_gpu("NVIDIA GB10", memory=NS, bar1=NS), "unified"),
        (a_gpu("NVIDIA Thor", memory=NS), "unified"),
        (a_gpu("Orin (nvgpu)", memory=NS), "unified"),
        # The figure of a replaced library: this chip has none.
        (a_gpu("NVIDIA GB10"), "unified"),
        (a_gpu("NVIDIA N1X", memory=NS, addressing={"ok": 2}, bar1=NS), "unified"),
        # A bare "not supported" on a card nobody knows: never unified by default.
        (a_gpu("NVIDIA Mystery", memory=NS), None),
        (a_gpu("NVIDIA Mystery", memory=NS, addressing={"ok": 2}, bar1=MISSING), None),
        (a_gpu("NVIDIA Mystery", memory=NS, addressing={"ok": 2}, bar1=NS, numa_node={"ok": 1}), None),
        (a_gpu("NVIDIA Mystery", memory=NS, addressing={"ok": 1}, bar1=NS), None),
        (a_gpu("NVIDIA GB100", memory=NS), None),
        (a_gpu("NVIDIA H200", memory={"error": "no_permission", "code": 4}), None),
        (a_gpu("NVIDIA H200", memory={"error": "error", "code": 999}), None),
    ],
)
def test_the_kind_of_a_gpu_is_told_strictly(gpu: dict[str, Any], kind: str | None) -> None:
    assert memory.kind_of(gpu, "auto", driver_managed=False) == kind


def test_a_coherent_gpu_whose_driver_keeps_the_memory_is_like_a_discrete_one() -> None:
    gpu = a_gpu("NVIDIA GH200 480GB", numa_node={"ok": 1})

    assert memory.kind_of(gpu, "auto", driver_managed=True) == "discrete"


def test_what_the_operator_declared_wins() -> None:
    assert memory.kind_of(a_gpu("NVIDIA Mystery", memory=NS), "unified", driver_managed=False) == "unified"
    assert memory.kind_of_host([], "unified") == {"value": "unified"}


@pytest.mark.parametrize(
    ("kinds", "host"),
    [
        (["discrete", "discrete"], {"value": "discrete"}),
        ([], {"na": "no GPU"}),
        (
            ["discrete", None],
            {"unknown": "NVML gives no memory figure, and the GPU is not known to share the host's memory"},
        ),
        (["gh200", "discrete"], {"unknown": "GPUs of several kinds: discrete, gh200"}),
    ],
)
def test_the_kind_of_a_host_is_the_one_kind_of_its_gpus(kinds: list[str | None], host: dict[str, str]) -> None:
    assert memory.kind_of_host(kinds, "auto") == host


def test_who_manages_a_coherent_gpus_memory_is_read_from_the_drivers_parameters() -> None:
    path = "/proc/driver/nvidia/params"

    assert memory.is_driver_managed(FakeHost({path: 'X: 1\nCoherentGPUMemoryMode: "driver"\n'}))
    assert not memory.is_driver_managed(FakeHost({path: 'CoherentGPUMemoryMode: ""\n'}))
    assert not memory.is_driver_managed(FakeHost())


MEMINFO = "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 60 kB\nCached: 50 kB\nSwapCached: 3 kB\nSwapFree: 0 kB\n"


def test_meminfo_is_told_in_bytes_and_free_is_not_available() -> None:
    assert memory.meminfo(FakeHost({"/proc/meminfo": MEMINFO})) == {
        "total": 102400,
        "free": 10240,
        "available": 61440,
        "cached": 51200,
        "swap_free": 0,
    }


def test_a_missing_figure_is_an_error_and_not_zero() -> None:
    with pytest.raises(ValueError, match=r"^/proc/meminfo has no MemAvailable$"):
        memory.meminfo(FakeHost({"/proc/meminfo": MEMINFO.replace("MemAvailable: 60 kB\n", "")}))


def test_page_cache_on_a_gpus_node_can_be_reclaimed() -> None:
    node = "Node 1 MemFree: 7 kB\nNode 1 Active(file): 30 kB\nNode 1 Inactive(file): 12 kB\nNode 1 Active(anon): 9 kB\n"

    assert memory.reclaimable(FakeHost({"/sys/devices/system/node/node1/meminfo": node}), 1) == 42 * 1024

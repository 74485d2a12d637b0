"""What nvidia-smi prints where NVML cannot be used."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import gpu, gpu_child, smi
from reconciler.agent.machine import Completed
from tests.agent.fakehost import FakeHost

SMI = "/usr/bin/nvidia-smi"
REPORT = b"""<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>580.95.05</driver_version>
  <gpu id="00000000:18:00.0">
    <product_name>NVIDIA H200</product_name>
    <uuid>GPU-1</uuid>
    <pci><pci_bus_id>00000000:18:00.0</pci_bus_id></pci>
    <addressing_mode>ATS</addressing_mode>
    <gpu_recovery_action>Reboot</gpu_recovery_action>
    <fb_memory_usage>
      <total>143771 MiB</total><reserved>650 MiB</reserved><used>100 MiB</used><free>143021 MiB</free>
    </fb_memory_usage>
    <utilization><gpu_util>37 %</gpu_util><memory_util>5 %</memory_util></utilization>
    <bar1_memory_usage><total>262144 MiB</total></bar1_memory_usage>
    <processes>
      <process_info>
        <pid>4242</pid><type>C</type><process_name>a, b</process_name><used_memory>90 MiB</used_memory>
      </process_info>
      <process_info>
        <pid>4243</pid><type>C+G</type><process_name>x</process_name><used_memory>N/A</used_memory>
      </process_info>
    </processes>
  </gpu>
</nvidia_smi_log>
"""
MIB = 1 << 20


def test_a_report_has_the_shape_of_nvmls_answer() -> None:
    assert smi.parse(REPORT, SMI) == {
        "error": None,
        "driver": "580.95.05",
        "library": SMI,
        "gpus": [
            {
                "index": 0,
                "error": None,
                "uuid": {"ok": "GPU-1"},
                "name": {"ok": "NVIDIA H200"},
                "bus": {"ok": "00000000:18:00.0"},
                "memory": {
                    "ok": {"total": 143771 * MIB, "used": 100 * MIB, "free": 143021 * MIB, "reserved": 650 * MIB}
                },
                "bar1": {"ok": 262144 * MIB},
                "numa_node": {"error": "not_found", "code": 13},
                "addressing": {"ok": 2},
                "recovery_action": {"ok": 2},
                "utilization": {"ok": 37},
                "mig": None,
                "processes": {
                    "ok": [
                        {"pid": 4242, "bytes": 90 * MIB, "kind": "C"},
                        {"pid": 4243, "bytes": None, "kind": "C+G"},
                    ]
                },
                "suspect": False,
            }
        ],
    }


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        (b"N/A", {"error": "not_supported", "code": 3}),
        (b"[N/A]", {"error": "not_supported", "code": 3}),
        (b"[Insufficient Permissions]", {"error": "no_permission", "code": 4}),
        (b"[Unknown Error]", {"error": "error", "code": 999}),
        (b"Requested functionality has been deprecated", {"error": "error", "code": 999}),
        (b"", {"error": "not_found", "code": 13}),
    ],
)
def test_words_in_place_of_figures_are_never_zero(word: bytes, answer: dict[str, Any]) -> None:
    report = smi.parse(REPORT.replace(b"143771 MiB", word), SMI)

    assert report is not None
    assert report["gpus"][0]["memory"] == answer


def test_a_process_list_that_is_a_word_is_no_empty_list() -> None:
    start, end = REPORT.index(b"<processes>"), REPORT.index(b"</processes>")
    report = smi.parse(REPORT[:start] + b"<processes>N/A" + REPORT[end:], SMI)

    assert report is not None
    assert report["gpus"][0]["processes"] == {"error": "not_supported", "code": 3}


def test_what_is_no_report_is_nothing() -> None:
    assert smi.parse(b"NVIDIA-SMI has failed", SMI) is None
    assert smi.ask(FakeHost(), 5) is None
    assert smi.ask(FakeHost({SMI: b""}, programs={(SMI, "-q", "-x"): Completed(9, REPORT, b"")}), 5) is None


def a_host() -> FakeHost:
    return FakeHost({SMI: b""}, programs={(SMI, "-q", "-x"): Completed(0, REPORT, b"")})


@pytest.mark.parametrize("code", [gpu_child.LIBRARY_MISSING, None])
def test_without_a_usable_library_nvidia_smi_is_asked(code: int | None) -> None:
    found = gpu.describe(a_host(), gpu_child.failed(code, "it broke"), "auto", 5)

    assert found.gpus["value"][0]["memory"]["value"]["free"] == 143021 * MIB
    assert (found.driver, found.memory_class) == ({"value": "580.95.05"}, {"value": "discrete"})
    assert found.notes == ["NVML could not be used (it broke); nvidia-smi answered instead"]


def test_a_driver_that_nvml_calls_broken_is_not_asked_again_through_nvidia_smi() -> None:
    host = a_host()

    found = gpu.describe(host, gpu_child.failed(9, "not loaded"), "auto", 5)

    assert (found.gpus, host.ran) == ({"unknown": "the NVIDIA kernel driver is not loaded"}, [])


def test_a_scrambled_process_list_is_replaced_by_nvidia_smis() -> None:
    report = smi.parse(REPORT, SMI)
    assert report is not None
    scrambled = {**report["gpus"][0], "suspect": True, "processes": {"ok": []}}

    found = gpu.describe(a_host(), {**report, "gpus": [scrambled]}, "auto", 5)

    assert [process["pid"] for process in found.gpus["value"][0]["processes"]["value"]] == [4242, 4243]
    assert found.notes == ["GPU 0: NVML's process list is scrambled; nvidia-smi's is used"]

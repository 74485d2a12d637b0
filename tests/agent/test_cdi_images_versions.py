"""Facts read from files so that podman need not be started: CDI devices, images, versions."""

from __future__ import annotations

import json

import pytest

from reconciler.agent import cdi, images, places, versions
from reconciler.agent.machine import Completed, Stat
from reconciler.agent.record import read_record
from tests.agent.fakehost import Denied, FakeHost

CTK = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  hooks:
  - args:
    - nvidia-cdi-hook
    hookName: createContainer
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      name: not-a-device
  name: "0"
- name: GPU-2dee1e25-b3b5-007e-2b55-79f2d0f2ebe5
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- containerEdits: {}
  name: all
kind: nvidia.com/gpu
"""
INDENTED = "kind: nvidia.com/gpu\ndevices:\n    - name: '0'\n      containerEdits: {}\n    - name: 'all'\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (CTK, ["0", "GPU-2dee1e25-b3b5-007e-2b55-79f2d0f2ebe5", "all"]),
        (INDENTED, ["0", "all"]),
        ('{"kind": "nvidia.com/gpu", "devices": [{"name": "0"}]}', ["0"]),
    ],
)
def test_a_spec_gives_kind_and_device_names(text: str, names: list[str]) -> None:
    assert cdi.parse(text, "/etc/cdi/nvidia.yaml") == ("nvidia.com/gpu", names)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kind: nvidia.com/gpu\n",
        "kind: nvidia.com/gpu\ndevices: [{name: '0'}]\n",
        CTK.replace('  name: "0"\n', ""),
        CTK.replace("kind: nvidia.com/gpu\n", ""),
        "{ kind: x",
        '{"kind": "x", "devices": [1]}',
    ],
)
def test_a_spec_in_another_style_is_an_error_that_names_the_file(text: str) -> None:
    with pytest.raises(ValueError, match=r"^/etc/cdi/x\.yaml is not understood"):
        cdi.parse(text, "/etc/cdi/x.yaml")


def test_both_directories_are_read_and_other_files_left_alone() -> None:
    host = FakeHost({"/etc/cdi/README": "hello", "/etc/cdi/a.json": '{"kind": "v/a", "devices": [{"name": "0"}]}'})
    host.files["/var/run/cdi/nvidia.yaml"] = INDENTED

    assert cdi.read(host) == {
        "devices": ["nvidia.com/gpu=0", "nvidia.com/gpu=all", "v/a=0"],
        "files": ["/etc/cdi/a.json", "/var/run/cdi/nvidia.yaml"],
    }
    assert cdi.read(FakeHost()) == {"devices": [], "files": []}


STORE = "/var/lib/containers/storage"
VLLM = "docker.io/vllm/vllm-openai"
LIST, ARCH = "sha256:" + "a" * 64, "sha256:" + "b" * 64
IMAGE = {
    "id": "1",
    "digest": ARCH,
    "names": [f"{VLLM}:v0.12", "registry.example.net:5000/mirror/vllm:latest"],
    "big-data-digests": {f"manifest-{LIST}": LIST, "manifest": ARCH, "sha256:cc": "sha256:" + "c" * 64},
}


@pytest.mark.parametrize(
    ("ref", "is_there"),
    [
        (f"{VLLM}:v0.12", True),
        (f"{VLLM}@{ARCH}", True),
        (f"{VLLM}@{LIST}", True),
        (f"registry.example.net:5000/mirror/vllm@{LIST}", True),
        (f"{VLLM}:v0.13", False),
        (f"docker.io/other/vllm@{ARCH}", False),
        (f"{VLLM}@sha256:{'c' * 64}", False),
        (f"{VLLM}@sha256:{'d' * 64}", False),
    ],
)
def test_an_image_is_there_by_name_or_by_repository_and_digest(ref: str, is_there: bool) -> None:
    host = FakeHost({f"{STORE}/overlay-images/images.json": json.dumps([IMAGE])})

    assert images.present(host, [ref]) == ([ref] if is_there else [])


def test_configured_and_additional_stores_are_read() -> None:
    config = '[storage]\ngraphroot = "/srv/store"\n[storage.options]\nadditionalimagestores = [\n  "/srv/shared",\n]\n'
    host = FakeHost({"/etc/containers/storage.conf": config})
    host.files["/srv/shared/overlay-images/images.json"] = json.dumps([IMAGE])
    host.files["/srv/store/overlay-images/images.json"] = json.dumps([{"id": "2", "names": ["example.net/x:1"]}])

    assert images.present(host, [f"{VLLM}@{LIST}", "example.net/x:1", "example.net/y:1"]) == [
        f"{VLLM}@{LIST}",
        "example.net/x:1",
    ]


def test_a_store_that_was_never_made_has_no_images() -> None:
    assert images.present(FakeHost(), [VLLM]) == []


@pytest.mark.parametrize("content", [Denied(), "{", "{}"])
def test_a_store_that_cannot_be_read_never_makes_an_image_missing(content: str) -> None:
    with pytest.raises((OSError, ValueError)):
        images.present(FakeHost({f"{STORE}/overlay-images/images.json": content}), [VLLM])


PODMAN = ("podman", "--version")


class DatedHost(FakeHost):
    """A host whose podman has a date that a test can set."""

    mtime_ns = 5

    def stat(self, path: str) -> Stat | None:
        found = super().stat(path)
        return found._replace(mtime_ns=self.mtime_ns) if found else None


def a_host_with_podman() -> DatedHost:
    return DatedHost({"/usr/bin/podman": b"\x7fELF"}, programs={PODMAN: Completed(0, b"podman version 5.4.2\n", b"")})


def test_podman_is_asked_once_and_then_believed_while_its_file_is_the_same() -> None:
    host = a_host_with_podman()

    assert versions.podman(host) == {"value": "5.4.2"}
    assert places.FACTS not in host.files

    versions.remember(host)
    host.ran.clear()

    assert versions.podman(host) == {"value": "5.4.2"}
    versions.remember(host)
    assert host.ran == []
    assert read_record(host, places.FACTS) == {
        "podman": {"program": {"path": "/usr/bin/podman", "size": 4, "mtime_ns": 5}, "version": "5.4.2"}
    }


def test_another_file_or_a_damaged_note_means_asking_again() -> None:
    replaced, damaged, undated = a_host_with_podman(), a_host_with_podman(), a_host_with_podman()
    for host in (replaced, damaged, undated):
        versions.remember(host)
        host.programs[PODMAN] = Completed(0, b"podman version 5.6.0\n", b"")
    replaced.mtime_ns = 6
    damaged.files[places.FACTS] = b"{}"
    undated.mtime_ns = 0

    assert [versions.podman(host) for host in (replaced, damaged, undated)] == [{"value": "5.6.0"}] * 3


def test_what_podman_does_not_say_is_unknown() -> None:
    broken = FakeHost(programs={PODMAN: Completed(125, b"", b"Error: cannot set up namespace\n")})

    assert versions.podman(FakeHost()) == {"unknown": "podman is not installed"}
    assert versions.podman(broken) == {"unknown": "podman --version: Error: cannot set up namespace"}

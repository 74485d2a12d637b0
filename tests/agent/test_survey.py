"""What a host says before it is recon's: with everything, without privilege, and with nothing there at all."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import dispatch, observe
from reconciler.agent.machine import Completed
from reconciler.agent.rivals import RivalsError, containers
from reconciler.agent.user_scope import Account, UserMachine
from reconciler.model.observed import HostState, Known, ManagedFile, Unknown
from reconciler.model.survey import Survey
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import GiB
from tests.agent.bench import IMAGES
from tests.agent.fakehost import Denied, FakeHost

CONTEXT: dict[str, Any] = {"digest": "d" * 64, "mode": "streamed", "bundle": {}}
STATUS = "Name:\tpython3\nUid:\t1000\t1000\t1000\t1000\n"
PASSWD = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n"
CLOCK = ("timedatectl", "show", "--property=NTPSynchronized", "--value")


class Host(FakeHost):
    """A dictionary that has a GPU to be asked about, disks, and probes one after the other."""

    def parallel(self, calls: Any) -> list[Any]:
        return [call() for call in calls]

    def gpu_facts(self, timeout_s: float) -> dict[str, Any]:
        raise OSError(13, "Permission denied", "/dev/nvidiactl")

    def free_bytes(self, path: str) -> int:
        return 7

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1000.0


def surveyed(host: Any) -> Survey:
    return Survey.model_validate(dispatch.handle(host, "survey", {}, CONTEXT))


def test_a_simulated_host_tells_everything() -> None:
    found = surveyed(SimMachine.new("spark-1", "gb10"))

    told = found.model_dump(mode="json")
    assert [key for key, fact in told.items() if isinstance(fact, dict) and "unknown" in fact] == []
    assert told["memory_class"] == {"value": "unified"}
    assert told["uid"] == {"value": 0}
    assert told["owners"] == {"value": {}}
    assert [disk["path"] for disk in told["disks"]] == ["/", "/var/lib/containers", "/var/lib/containers/storage"]


def test_looking_changes_nothing() -> None:
    machine = SimMachine.new("h-1")
    changed: list[str] = []
    machine.hook = lambda when, what: changed.append(f"{when} {what}")

    surveyed(machine)

    assert changed == []


def test_what_cannot_be_read_is_unknown_and_takes_nothing_else_along() -> None:
    host = Host(
        {
            "/proc/self/status": STATUS,
            "/etc/passwd": PASSWD,
            "/etc/containers/storage.conf": Denied(),
            "/var/lib/systemd/linger/ada": "",
            "/etc/machine-id": Denied(),
            "/proc/sys/kernel/hostname": "h-1\n",
        },
        programs={CLOCK: Completed(1, b"", b"Failed to connect to bus")},
    )

    told = surveyed(host).model_dump(mode="json")

    assert told["uid"] == {"value": 1000}
    assert told["user"] == {"value": "ada"}
    assert told["lingers"] == {"value": True}
    assert told["hostname"] == {"value": "h-1"}
    assert told["machine_id"] == {"unknown": "/etc/machine-id: Permission denied"}
    assert told["synchronized"] == {"unknown": "timedatectl: Failed to connect to bus"}
    assert told["podman"] == {"unknown": "podman is not installed"}
    assert told["gpus"] == {"unknown": "PermissionError: /dev/nvidiactl: Permission denied"}
    assert told["cgroup2"] == {"value": False}
    assert told["disks"] == [{"path": "/", "free": {"value": 7}}, {"path": "/var/lib/containers", "free": {"value": 7}}]


def a_user(files: dict[str, Any]) -> dict[str, Any]:
    account = Account("ada", 1000, "/home/ada", "/run/user/1000")
    host = Host({"/proc/self/status": STATUS, "/etc/passwd": PASSWD, **files})
    found: dict[str, Any] = surveyed(UserMachine(host, account)).model_dump(mode="json")["rootless"]
    return found


def test_of_a_user_it_tells_what_containers_without_root_need() -> None:
    ids = "root:100000:65536\nada:165536:65536\n1000:300000:10\nbob:400000:9\nodd\n"
    files = {"/usr/bin/newuidmap": "", "/usr/bin/newgidmap": "", "/run/user/1000/systemd/private": ""}
    files["/run/user/1000/bus"] = ""
    nothing = {"missing": ["newuidmap", "newgidmap"], "subuids": 0, "subgids": 0, "manager": False, "bus": False}

    whole = a_user({**files, "/etc/subuid": ids, "/etc/subgid": "ada:165536:65536\n"})
    bare = a_user({"/etc/subuid": "bob:1:2\n"})

    assert whole == {"value": {"missing": [], "subuids": 65546, "subgids": 65536, "manager": True, "bus": True}}
    assert bare == {"value": nothing}
    assert surveyed(Host({"/proc/self/status": STATUS})).model_dump(mode="json")["rootless"] == {"na": "not a user's"}


def test_ranges_of_ids_that_cannot_be_read_are_unknown() -> None:
    assert a_user({"/etc/subuid": Denied()}) == {"unknown": "/etc/subuid: Permission denied"}


def test_the_room_for_images_is_asked_where_the_store_is() -> None:
    host = Host({"/etc/containers/storage.conf": '[storage]\ngraphroot = "/fast/images"\n'})

    assert [disk.path for disk in surveyed(host).disks] == ["/", "/var/lib/containers", "/fast/images"]


class Disks(Host):
    """A host with a small disk for the system and a large one for the homes."""

    def free_bytes(self, path: str) -> int:
        if self.stat(path) is None:
            raise FileNotFoundError(path)
        return 900 * GiB if path.startswith("/home") else 3 * GiB


@pytest.mark.parametrize(
    ("conf", "store", "free"),
    [
        ({}, "/home/ada/.local/share/containers/storage", 900 * GiB),
        (
            {"/usr/share/containers/storage.conf": 'graphroot = "/var/lib/containers/storage"\n'},
            "/home/ada/.local/share/containers/storage",
            900 * GiB,
        ),
        ({"/home/ada/.config/containers/storage.conf": 'graphroot = "/fast/ada"\n'}, "/fast/ada", 3 * GiB),
    ],
)
def test_of_a_user_who_never_pulled_an_image_the_disk_of_the_home_is_measured(
    conf: dict[str, Any], store: str, free: int
) -> None:
    account = Account("ada", 1000, "/home/ada", "/run/user/1000")
    files = {"/proc/self/status": STATUS, "/etc/passwd": PASSWD, "/home/ada/.profile": "", **conf}
    host = Disks(files, directories=["/", "/var/lib/containers"])

    disks = surveyed(UserMachine(host, account)).model_dump(mode="json")["disks"]

    assert disks == [{"path": "/", "free": {"value": 3 * GiB}}, {"path": store, "free": {"value": free}}]


def test_an_observation_without_privilege_says_so_and_calls_nothing_damaged() -> None:
    machine = SimMachine.new("h-1")
    read = machine.read

    def as_guest(path: str, limit: int = 1 << 20) -> bytes:
        if path == "/proc/self/status":
            return STATUS.encode()
        if path.startswith("/var/lib/recon/txn/"):
            raise PermissionError(13, "Permission denied", path)
        return read(path, limit)

    machine.read = as_guest  # type: ignore[method-assign]  # the same machine, seen by another user
    machine.mkdir("/var/lib/recon/txn/t1")
    machine.write("/var/lib/recon/txn/t1/outcome.json", b"torn")

    state = HostState.model_validate(observe.observe(machine, {}, {"digest": "d", "mode": "streamed", "bundle": None}))

    assert state.damaged == ()
    assert state.notes[-1].startswith("looked at without root")
    assert state.executor.last == Unknown(unknown="/var/lib/recon/txn/t1/outcome.json: Permission denied")


def a_guest(machine: SimMachine, *denied: str) -> SimMachine:
    """Return a host as a login sees it that neither is root nor has it."""
    read = machine.read

    def as_guest(path: str, limit: int = 1 << 20) -> bytes:
        if path == "/proc/self/status":
            return STATUS.encode()
        if path in denied:
            raise PermissionError(13, "Permission denied", path)
        return read(path, limit)

    machine.read = as_guest  # type: ignore[method-assign]  # the same machine, seen by another user
    return machine


def test_a_guest_is_not_told_that_nobody_has_a_container_which_it_cannot_see() -> None:
    machine = SimMachine.new("h-1")
    machine.podman.stray("llama", IMAGES["llamacpp"], [], GiB, [], restart="always", keeps=True)
    a_guest(machine)
    asked = {"adopts": ["llama"], "containers": ["llama"]}

    state = HostState.model_validate(
        observe.observe(machine, asked, {"digest": "d", "mode": "streamed", "bundle": None})
    )

    unseen = "podman tells this login of its own containers alone, and the host is another's"
    assert (state.adoptees, state.names) == (Unknown(unknown=unseen), Unknown(unknown=unseen))
    with pytest.raises(RivalsError, match=unseen):
        containers(machine, "/srv/spiral", [])


def test_a_mount_of_somebody_else_that_a_guest_cannot_read_leaves_the_files_known() -> None:
    machine = SimMachine.new("h-1")
    path = "/etc/systemd/system/secret.mount"
    machine.mkdir("/etc/systemd/system")
    machine.write(path, b"[Mount]\nOptions=password=x\n", 0o600)

    state = HostState.model_validate(
        observe.observe(a_guest(machine, path), {}, {"digest": "d", "mode": "streamed", "bundle": None})
    )

    assert state.files == Known[tuple[ManagedFile, ...]](value=())

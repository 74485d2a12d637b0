"""Podman on a simulated host: containers with their processes and control groups, images, and its command line.

Must not: know units beyond the name of the one that started a container.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from reconciler.agent.machine import Completed
from reconciler.sim.clock import Clock
from reconciler.sim.faults import fault_of
from reconciler.sim.gpu import GpuMemory
from reconciler.sim.services import Servers
from reconciler.sim.state import Container, Process, SimState

PULL_S = 12.0
STOP_S = 0.4
_TERMINATED = 143
_KILLED = 137
_NO_IMAGE = 125

_FLAGS = frozenset({"--replace", "--rm", "-d", "--init", "--read-only", "--privileged", "--ignore"})
_RESTART_FORMAT = "{{.Name}}\t{{.ImageName}}\t{{.HostConfig.RestartPolicy.Name}}\t{{json .Mounts}}"
_LABEL_FORMAT = '{{.Id}} {{index .Config.Labels "PODMAN_SYSTEMD_UNIT"}}'

Exited = Callable[[str, int], None]


class UnknownArgvError(NotImplementedError):
    """The simulator does not know this command: it says so loudly, rather than make an answer up."""


class Podman:
    """The containers of one host."""

    def __init__(self, state: SimState, clock: Clock, gpu: GpuMemory) -> None:
        self._state = state
        self._clock = clock
        self.servers = Servers(state, clock, gpu, self.exited, self._ready)
        self.on_exit: Exited | None = None
        self.on_healthy: Callable[[str], None] | None = None
        clock.on("podman.stopped", lambda args: self.exited(str(args["container"]), int(args["code"])))

    def start(self, unit: str, argv: Sequence[str], env: dict[str, str], cgroup: str) -> Container | int:
        """Do what `podman run` in a unit does: return the container, or the exit status when it cannot."""
        container = self._container(unit, argv)
        if not self._has_image(container.image):
            self._clock.log(unit, f"Error: {container.image}: image not known")
            return _NO_IMAGE
        for other in [other for other in self._state.containers.values() if other.name == container.name]:
            self._forget(other)
        container.labels.setdefault("PODMAN_SYSTEMD_UNIT", unit)
        container.conmon = self._process("conmon", ["conmon"], f"{cgroup}/runtime", {**env, **container.env})
        self._run(container, f"{cgroup}/libpod-payload-{container.id}")
        return container

    def stray(
        self,
        name: str,
        image: str,
        words: Sequence[str],
        memory: int,
        devices: Sequence[str],
        *,
        restart: str = "",
        keeps: bool = False,
    ) -> Container:
        """Do what somebody's `podman run` on a shell does: a container in a scope of its own."""
        container = self._container("", ["podman", "run", "--name", name, image, *words])
        container.devices = list(devices)
        container.labels["io.recon.memory"] = str(memory)
        container.restart, container.keeps = restart, keeps
        self._run(container, f"/machine.slice/libpod-{container.id}.scope/container")
        return container

    def stop(self, container: Container) -> None:
        """Do what `podman rm -f` does: SIGTERM, and SIGKILL when the stop timeout is over."""
        deaf = fault_of(
            self._state, "ignores-sigterm", container.unit, container.server.port if container.server else None
        )
        takes = float("inf") if deaf else STOP_S + self.servers.finishing_s(container)
        killed = takes > container.stop_timeout
        delay, code = (container.stop_timeout, _KILLED) if killed else (takes, _TERMINATED)
        self._clock.schedule(delay, "podman.stopped", container=container.id, code=code)

    def of_unit(self, unit: str) -> Container | None:
        """Return the container that runs for a unit."""
        for container in self._state.containers.values():
            if container.unit == unit and container.status == "running":
                return container
        return None

    def exited(self, ident: str, code: int) -> None:
        """Let a container end with a code."""
        container = self._state.containers.get(ident)
        if container is None or container.status != "running":
            return
        container.status, container.exit_code = "exited", code
        self._clock.note(f"container {container.name} ended with {code}")
        self.servers.end(container)
        stuck = fault_of(self._state, "unkillable", container.unit)
        if stuck is not None and container.pid in self._state.processes:
            self._state.processes[container.pid].state = stuck.text or "D"
        for pid in (container.conmon, *([] if stuck else [container.pid])):
            self._state.processes.pop(pid, None)
        if container.keeps:
            container.server, container.pid = None, 0
        else:
            self._forget(container)
        if container.unit and self.on_exit is not None:
            self.on_exit(container.unit, code)

    def clear(self) -> None:
        """Forget all containers that ran and do not stay: the machine went down."""
        kept = {ident: each for ident, each in self._state.containers.items() if each.keeps}
        self._state.containers.clear()
        self._state.containers.update(kept)
        for each in kept.values():
            each.status, each.server, each.pid = "exited", None, 0

    def boot(self) -> None:
        """Do what podman-restart.service does: start what is always to run."""
        for container in list(self._state.containers.values()):
            if container.restart == "always":
                self._begin(container)

    def images_json(self) -> bytes:
        """Return podman's own list of images, as it lies on the disk."""
        images = [
            {"id": f"{index:064x}", "names": [ref], "digest": ref.partition("@")[2], "big-data-digests": {}}
            for index, ref in enumerate(sorted(self._state.images))
        ]
        return json.dumps(images).encode()

    def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """Answer a podman command."""
        words = list(argv[1:])
        if words == ["--version"]:
            return Completed(0, f"podman version {self._state.podman}\n".encode(), b"")
        if words[:2] == ["image", "exists"] and len(words) == 3:
            return Completed(0 if self._has_image(words[2]) else 1, b"", b"")
        if words[:4] == ["image", "inspect", "--format", "{{.Config.User}}"] and len(words) == 5:
            return Completed(0 if self._has_image(words[4]) else 125, b"\n", b"")
        if words[:1] == ["pull"]:
            return self._pull([word for word in words[1:] if word not in ("--quiet", "-q")], timeout_s)
        if words[:1] == ["volume"]:
            return self._volume(words[1:])
        if words[:1] in (["stop"], ["start"], ["update"]):
            return self._deed(words, timeout_s)
        told = self._told(words)
        if told is None:
            raise UnknownArgvError(f"podman: {list(argv)}")
        return told

    def _deed(self, words: list[str], timeout_s: float) -> Completed:
        """Stop, start or update a container that somebody names."""
        found = next((each for each in self._state.containers.values() if each.name == words[-1]), None)
        if found is None:
            return Completed(125, b"", f'Error: no container with name "{words[-1]}" found\n'.encode())
        if words == ["stop", "--", found.name]:
            if found.status == "running":
                self.stop(found)
                self._clock.wait_for(lambda: found.status != "running", timeout_s)
        elif words == ["start", "--", found.name]:
            if found.status != "running":
                self._begin(found)
        elif len(words) == 4 and words[1].startswith("--restart=") and words[2] == "--":
            found.restart = words[1].partition("=")[2]
        else:
            raise UnknownArgvError(f"podman: {words}")
        return Completed(0, f"{found.name}\n".encode(), b"")

    def _begin(self, container: Container) -> None:
        container.status = "running"
        self._run(container, f"/machine.slice/libpod-{container.id}.scope/container")

    def _told(self, words: list[str]) -> Completed | None:
        """Tell of containers; None for what nobody asks."""
        if words == ["ps", "--quiet", "--no-trunc"]:
            return Completed(0, "".join(f"{each.id}\n" for each in self._running()).encode(), b"")
        if words[:1] == ["ps"]:
            return self._ps(words[1:])
        if words[:4] == ["inspect", "--type=container", "--format", _LABEL_FORMAT]:
            return self._inspect(words[4:])
        if words[:4] == ["inspect", "--type=container", "--format", _RESTART_FORMAT]:
            return self._inspect_restarts(words[4:])
        if words[:4] == ["inspect", "--type", "container", "--"]:
            return self._inspect_whole(words[4:])
        return None

    def _running(self) -> list[Container]:
        return [each for each in self._state.containers.values() if each.status == "running"]

    def _inspect_whole(self, idents: list[str]) -> Completed:
        """Tell of containers as far as a simulated one has what podman would say."""
        documents = [
            {
                "Id": each.id,
                "Name": each.name,
                "ImageName": each.image,
                "ImageDigest": each.image.partition("@")[2],
                "Config": {
                    "Env": [f"{name}={value}" for name, value in each.env.items()],
                    "Cmd": each.command,
                    "Labels": each.labels,
                    "StopTimeout": int(each.stop_timeout),
                    "CreateCommand": ["podman", "run", *(f"--device={device}" for device in each.devices), each.image],
                },
                "HostConfig": {
                    "NetworkMode": "host",
                    "RestartPolicy": {"Name": each.restart or "no"},
                    "AutoRemove": not each.keeps,
                },
                "Mounts": [],
                "State": {
                    "Status": each.status,
                    "StartedAt": f"{each.created:.3f}",
                    "Running": each.status == "running",
                    "CgroupPath": f"/machine.slice/libpod-{each.id}.scope" if each.status == "running" else "",
                },
            }
            for each in self._state.containers.values()
            if each.id in idents or each.name in idents
        ]
        if not documents:
            return Completed(125, b"[]\n", f'Error: no such object: "{idents[-1]}"\n'.encode())
        return Completed(0, json.dumps(documents).encode(), b"")

    def _volume(self, words: list[str]) -> Completed:
        """Make, name or remove volumes that hold an image."""
        held = self._state.held_images
        if words == ["ls", "--quiet", "--filter=label=io.recon.keep=1"]:
            return Completed(0, "".join(f"{name}\n" for name in sorted(held)).encode(), b"")
        options, rest = _options(words[1:])
        if words[:1] == ["create"] and "--ignore" in words and options.get("--driver") == ["image"] and len(rest) == 1:
            image = _pairs(options["--opt"])["image"]
            if not self._has_image(image):
                return Completed(125, b"", f"Error: {image}: image not known\n".encode())
            held[rest[0]] = image
            return Completed(0, f"{rest[0]}\n".encode(), b"")
        if words[:1] == ["rm"] and len(words) == 2:
            if held.pop(words[1], None) is None:
                return Completed(1, b"", f'Error: no volume with name "{words[1]}" found: no such volume\n'.encode())
            return Completed(0, f"{words[1]}\n".encode(), b"")
        raise UnknownArgvError(f"podman volume: {words}")

    def prune_images(self) -> None:
        """Do what `podman image prune --all` does: take every image that neither a container nor a volume uses."""
        used = {container.image for container in self._state.containers.values()}
        used.update(self._state.held_images.values())
        gone = [ref for ref in self._state.images if ref not in used]
        self._state.images = [ref for ref in self._state.images if ref in used]
        self._state.images_missing = sorted({*self._state.images_missing, *gone})

    def _pull(self, refs: list[str], timeout_s: float) -> Completed:
        for ref in refs:
            if ref in self._state.images_unpullable:
                return Completed(125, b"", f"Error: initializing source docker://{ref}: manifest unknown\n".encode())
            self._clock.advance(min(PULL_S, timeout_s))
            if timeout_s < PULL_S:
                return Completed(124, b"", b"")
            self._state.images_missing = [missing for missing in self._state.images_missing if missing != ref]
            self._has_image(ref)
        return Completed(0, f"{'0' * 64}\n".encode(), b"")

    def _inspect(self, idents: list[str]) -> Completed:
        lines, rc = [], 0
        for ident in idents:
            container = self._state.containers.get(ident)
            if container is None:
                rc = 125
                continue
            lines.append(f"{ident} {container.labels.get('PODMAN_SYSTEMD_UNIT', '')}")
        return Completed(rc, "".join(line + "\n" for line in lines).encode(), b"")

    def _inspect_restarts(self, idents: list[str]) -> Completed:
        lines = []
        for ident in idents:
            container = self._state.containers.get(ident)
            if container is None:
                return Completed(125, b"", f'Error: no such object: "{ident}"\n'.encode())
            mounts = json.dumps([{"Type": "bind", "Source": source} for source in container.mounts])
            lines.append(f"{container.name}\t{container.image}\t{container.restart}\t{mounts}")
        return Completed(0, "".join(line + "\n" for line in lines).encode(), b"")

    def _ps(self, words: list[str]) -> Completed:
        known = {"-a", "--all", "--format", "json", "--format=json", "--no-trunc"}
        labels = [word.partition("label=")[2] for word in words if word.startswith(("--filter=label=", "label="))]
        rest = [word for word in words if word not in known | {"--filter"} and "label=" not in word]
        if rest or "json" not in " ".join(words):
            raise UnknownArgvError(f"podman ps: {words}")
        everything = "-a" in words or "--all" in words
        found = []
        for container in self._state.containers.values():
            if container.status != "running" and not everything:
                continue
            pairs = [f"{key}={value}" for key, value in container.labels.items()]
            if all(label in pairs or label in container.labels for label in labels):
                found.append(
                    {
                        "Id": container.id,
                        "Names": [container.name],
                        "Image": container.image,
                        "State": container.status,
                        "Pid": container.pid,
                        "AutoRemove": not container.keeps,
                        "Labels": container.labels,
                    }
                )
        return Completed(0, json.dumps(found).encode(), b"")

    def _has_image(self, ref: str) -> bool:
        if ref in self._state.images_missing:
            return False
        if ref not in self._state.images:
            self._state.images.append(ref)
        return True

    def _run(self, container: Container, cgroup: str) -> None:
        container.pid = self._process("python3", [container.image, *container.command], cgroup, container.env)
        container.created = self._clock.now
        self._state.containers[container.id] = container
        self._clock.note(f"container {container.name} began")
        self.servers.begin(container)

    def _process(self, comm: str, argv: list[str], cgroup: str, env: dict[str, str]) -> int:
        pid = self._clock.pid()
        self._state.processes[pid] = Process(
            pid=pid, comm=comm, argv=argv, cgroup=cgroup, env=env, started=self._clock.now
        )
        return pid

    def _forget(self, container: Container) -> None:
        self._state.containers.pop(container.id, None)

    def _ready(self, ident: str, _code: int) -> None:
        container = self._state.containers[ident]
        if container.unit and self.on_healthy is not None:
            self.on_healthy(container.unit)

    def _container(self, unit: str, argv: Sequence[str]) -> Container:
        """Read the words of `podman run`."""
        options, rest = _options(argv[argv.index("run") + 1 :])
        name = next(iter(options.get("--name", [])), f"systemd-{unit.rpartition('.')[0]}")
        ident = self._clock.ident(64, name)
        return Container(
            id=ident,
            name=name,
            unit=unit,
            image=rest[0],
            command=rest[1:],
            env=_pairs(options.get("--env", [])),
            labels=_pairs(options.get("--label", [])),
            devices=options.get("--device", []),
            restart=next(iter(options.get("--restart", [])), ""),
            mounts=[volume.split(":", 1)[0] for volume in options.get("--volume", []) + options.get("-v", [])],
            stop_timeout=float(next(iter(options.get("--stop-timeout", [])), "10")),
        )


def _options(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    options: dict[str, list[str]] = {}
    at = 0
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        at += 1
        if "=" in word:
            key, _, value = word.partition("=")
            options.setdefault(key, []).append(value)
        elif word not in _FLAGS:
            options.setdefault(word, []).append(words[at])
            at += 1
    return options, list(words[at:])


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in words)

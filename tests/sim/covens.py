"""Two or three covens as unit files on a simulated host, put there by hand: what the systemd tests work on."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node

IMAGE = "docker.io/vllm/vllm-openai@sha256:" + "a" * 64


def gate(coven: str) -> str:
    return f"recon-gate-all-{coven}.service"


def target(coven: str) -> str:
    return f"recon-coven-{coven}.target"


def member(coven: str, service: str = "m") -> str:
    return f"recon-{coven}-{service}.service"


def put(machine: SimMachine, path: str, text: str) -> None:
    machine.files.make_dirs(path.rpartition("/")[0])
    machine.files.put(path, Node.of(text.encode()), follow=True)


def container_text(coven: str, service: str = "m", *, port: int = 8000, memory: int = 2**30, more: str = "") -> str:
    return f"""# Managed by recon
[Unit]
Requisite={gate(coven)}
PartOf={gate(coven)}
After={gate(coven)}
Before={target(coven)}
[Container]
ContainerName=recon-{coven}-{service}
Image={IMAGE}
Pull=never
Network=host
AddDevice=nvidia.com/gpu=all
Label=io.recon.memory={memory}
StopTimeout=20
Exec=--model /srv/models/{coven} --port {port}
[Service]
Environment=RECON_CONFIG_HASH=hash-of-{coven}
SuccessExitStatus=143
{more}
[Install]
WantedBy={target(coven)}
"""


def install(machine: SimMachine, covens: Sequence[str] = ("a", "b"), *, more: str = "", memory: int = 2**30) -> None:
    """Put gates, targets and one member per coven on the disk as generation 1, and let systemd read them."""
    for coven in covens:
        others = [gate(other) for other in covens if other != coven]
        earlier = [other for other in others if other < gate(coven)]
        lines = [f"Conflicts={other}" for other in others] + [f"After={other}" for other in earlier]
        lines += [f"AssertPathExists=!/run/{other.partition('.')[0]}" for other in others]
        put(
            machine,
            f"/etc/systemd/system/{gate(coven)}",
            "[Unit]\n" + "\n".join(lines) + "\nRefuseManualStart=yes\n"
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\n"
            f"RuntimeDirectory={gate(coven).partition('.')[0]}\n",
        )
        put(machine, f"/etc/systemd/system/{target(coven)}", f"[Unit]\nBindsTo={gate(coven)}\nAfter={gate(coven)}\n")
        put(
            machine,
            f"/etc/recon/generations/1/recon-{coven}-m.container",
            container_text(coven, more=more, memory=memory),
        )
    machine.symlink("/etc/recon/generations/1", "/etc/containers/systemd/recon")
    machine.run(["systemctl", "daemon-reload"], 10.0)


def systemctl(machine: SimMachine, *words: str) -> tuple[int, str]:
    """Run systemctl; return its exit status and what it complained about."""
    done = machine.run(["systemctl", *words], 600.0)
    return done.rc, done.err.decode()


def active(machine: SimMachine, *units: str) -> list[str]:
    return [machine.manager.run_of(unit).active for unit in units]


def shown(machine: SimMachine, unit: str, *properties: str) -> dict[str, str]:
    done = machine.run(["systemctl", "show", "--property=" + ",".join(properties), "--", unit], 10.0)
    return dict(line.split("=", 1) for line in done.out.decode().splitlines())


def moments(machine: SimMachine, text: str) -> list[float]:
    """Return when the trace says a thing happened."""
    return [float(line.split(" ", 1)[0]) for line in machine.clock.trace if line.split(" ", 1)[1] == text]

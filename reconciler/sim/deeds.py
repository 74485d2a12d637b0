"""What people and programs do to a simulated host behind recon's back, and what goes wrong there.

Each deed is a function, and a row of `DEEDS` with its words, so that a command line needs nothing but the table.

Must not: go through the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.fleet import SimFleet
from reconciler.sim.machine import SimMachine
from reconciler.sim.services import add_requests
from reconciler.sim.state import GiB, Node, Process

STRAY_IMAGE = "docker.io/library/somebody@sha256:" + "5" * 64


class DeedError(ValueError):
    """The words of a deed make no sense on this host."""


def unit_pattern(word: str) -> str:
    """Return the units a word names: `:8000` a port, a unit, `coven/service`, or all services of a coven."""
    if word.startswith(":") or "*" in word or word.endswith((".service", ".target")):
        return word
    coven, slash, service = word.partition("/")
    return f"recon-{coven}-{service}.service" if slash else f"recon-{coven}-*.service"


def fault(machine: SimMachine, kind: str, match: str = "*", value: float = 0.0, text: str = "") -> str:
    """Let something go wrong from now on; the kinds are in `faults.KINDS`."""
    set_fault(machine.state, kind, unit_pattern(match) if match != "*" else "*", value, text)
    return f"{machine.state.host}: {kind} for {match}"


def heal(machine: SimMachine, kind: str = "", match: str = "") -> str:
    """Take faults away: all, those of a kind, or one."""
    gone = clear_fault(machine.state, kind or None, unit_pattern(match) if match else None)
    return f"{machine.state.host}: {gone} faults taken away"


def hold_memory(machine: SimMachine, size: int, comm: str = "python3") -> str:
    """Let a program that is nobody's take GPU memory on every GPU, and keep it."""
    pid = machine.clock.pid()
    machine.state.processes[pid] = Process(
        pid=pid,
        comm=comm,
        argv=[comm],
        cgroup="/user.slice/user-1000.slice/session-3.scope",
        uid=1000,
        started=machine.clock.now,
    )
    if not machine.gpu.take(pid, comm, [gpu.uuid for gpu in machine.state.gpus], size):
        del machine.state.processes[pid]
        raise DeedError(f"{size} bytes are not free on {machine.state.host}")
    return f"{machine.state.host}: pid {pid} ({comm}) holds {size} bytes"


def end_process(machine: SimMachine, pid: int) -> str:
    """Let a process end and give its memory back."""
    if machine.state.processes.pop(pid, None) is None:
        raise DeedError(f"{machine.state.host} has no process {pid}")
    machine.gpu.release(pid)
    return f"{machine.state.host}: process {pid} ended"


def edit_unit(machine: SimMachine, unit: str, old: str, new: str) -> str:
    """Edit a unit's file by hand, where it takes effect; systemd is not told."""
    loaded = machine.manager.units.get(unit)
    path = loaded.source or loaded.fragment
    if not path:
        raise DeedError(f"{machine.state.host} has no file for {unit}")
    text = machine.files.read(path).decode("utf-8")
    if old not in text:
        raise DeedError(f"{path} does not say {old!r}")
    machine.files.put(path, Node.of(text.replace(old, new).encode()), follow=True)
    return f"{machine.state.host}: edited {path}"


def stop_unit(machine: SimMachine, unit: str) -> str:
    """Stop a unit by hand."""
    done = machine.run(["systemctl", "stop", unit], 600.0)
    if done.rc:
        raise DeedError(done.err.decode("utf-8", "replace").strip())
    return f"{machine.state.host}: stopped {unit}"


def stray(machine: SimMachine, memory: int, port: int = 9999) -> str:
    """Run a container with podman by hand, on all GPUs."""
    words = ["--port", str(port)]
    container = machine.podman.stray(f"stray-{port}", STRAY_IMAGE, words, memory, ["nvidia.com/gpu=all"])
    machine.clock.advance(5.0)
    return f"{machine.state.host}: container {container.id[:12]} runs beside recon"


def requests(machine: SimMachine, word: str, duration: float, count: int = 1, start_in: float = 0.0) -> str:
    """Put requests of a length on the servers of a unit, a coven or a port."""
    servers = machine.podman.servers.matching(unit_pattern(word))
    if not servers:
        raise DeedError(f"nothing of {word} runs on {machine.state.host}")
    for server in servers:
        add_requests(server, machine.clock.now, duration, count, start_in)
    return f"{machine.state.host}: {count} {'request' if count == 1 else 'requests'} of {duration:g} s to {word}"


def post(machine: SimMachine, word: str, path: str) -> str:
    """Call a server by hand, on a path with its query: `/sleep?level=1&mode=wait`."""
    servers = machine.podman.servers.matching(unit_pattern(word))
    if not servers:
        raise DeedError(f"nothing of {word} runs on {machine.state.host}")
    for server in servers:
        answer = machine.http("POST", f"http://127.0.0.1:{server.port}{path}", 60.0)
        if not 200 <= answer.status < 300:
            raise DeedError(f"POST {path} answered {answer.status}: {answer.body.decode('utf-8', 'replace')}")
    return f"{machine.state.host}: POST {path} to {word}"


def switch_off(machine: SimMachine) -> str:
    """Take the host's power away."""
    set_fault(machine.state, "down")
    return f"{machine.state.host}: switched off"


def switch_on(machine: SimMachine) -> str:
    """Give the host its power back: it boots."""
    clear_fault(machine.state, "down")
    machine.reboot()
    return f"{machine.state.host}: booted"


def wait(machine: SimMachine, seconds: float) -> str:
    """Let time pass on the host."""
    machine.clock.advance(seconds)
    return f"{machine.state.host}: {seconds:g} s later"


def missing(machine: SimMachine, what: str, name: str) -> str:
    """Take an image or a model path away; `unpullable` images cannot be fetched again either."""
    state = machine.state
    if what == "path":
        machine.files.drop_tree(name)
        state.paths_missing.append(name)
    elif what in ("image", "unpullable"):
        state.images = [ref for ref in state.images if ref != name]
        state.images_missing.append(name)
        state.images_unpullable += [name] if what == "unpullable" else []
    else:
        raise DeedError("say image, unpullable or path")
    return f"{state.host}: {what} {name} is gone"


def put_file(machine: SimMachine, path: str, text: str) -> str:
    """Write a file on the host, and the directory above it."""
    machine.files.make_dirs(path.rpartition("/")[0])
    machine.files.put(path, Node.of(text.encode()))
    return f"{machine.state.host}: {path} is there"


def run_by_hand(machine: SimMachine, words: Sequence[str]) -> str:
    """Run a program from a shell, which goes on until it is killed."""
    if not words:
        raise DeedError("say which program")
    pid = machine.clock.pid()
    comm, group = words[0].rpartition("/")[2][:15], "/user.slice/user-1000.slice/session-3.scope"
    machine.state.processes[pid] = Process(
        pid=pid, comm=comm, argv=list(words), cgroup=group, uid=1000, started=machine.clock.now
    )
    return f"{machine.state.host}: pid {pid} runs {' '.join(words)}"


def _fault_words(machine: SimMachine, words: Sequence[str]) -> str:
    kind, match, value, text = (*words, *("", "*", "0", "")[len(words) :])
    return fault(machine, kind, match, float(value), text)


class Deed(NamedTuple):
    """A row of the table: the words it takes after the host, one line of help, and how to do it."""

    words: str
    help: str
    run: Callable[[SimMachine, Sequence[str]], str]


DEEDS: dict[str, Deed] = {
    "fault": Deed(
        "KIND [COVEN|COVEN/SERVICE|UNIT|:PORT] [NUMBER] [TEXT]",
        "let something go wrong from now on",
        _fault_words,
    ),
    "heal": Deed("[KIND] [WHOM]", "take faults away", lambda m, w: heal(m, *w[:2])),
    "hold": Deed("GIB", "let a foreign program take GPU memory", lambda m, w: hold_memory(m, int(float(w[0]) * GiB))),
    "kill": Deed("PID", "let a process end", lambda m, w: end_process(m, int(w[0]))),
    "edit": Deed("UNIT OLD NEW", "edit a unit file by hand", lambda m, w: edit_unit(m, w[0], w[1], w[2])),
    "stop": Deed("UNIT", "stop a unit by hand", lambda m, w: stop_unit(m, w[0])),
    "stray": Deed("GIB", "run a container on the GPUs by hand", lambda m, w: stray(m, int(float(w[0]) * GiB))),
    "requests": Deed(
        "COVEN|COVEN/SERVICE|UNIT|:PORT SECONDS [COUNT]",
        "put requests in flight",
        lambda m, w: requests(m, w[0], float(w[1]), *[int(count) for count in w[2:3]]),
    ),
    "post": Deed("COVEN/SERVICE|:PORT PATH", "call a server by hand", lambda m, w: post(m, w[0], w[1])),
    "missing": Deed("image|unpullable|path NAME", "take an image or path away", lambda m, w: missing(m, w[0], w[1])),
    "file": Deed("PATH TEXT", "write a file", lambda m, w: put_file(m, w[0], w[1])),
    "run": Deed("PROGRAM [WORD...]", "run a program from a shell", run_by_hand),
    "down": Deed("", "switch the host off", lambda m, _: switch_off(m)),
    "up": Deed("", "switch the host on again", lambda m, _: switch_on(m)),
    "reboot": Deed("", "power cut and boot", lambda m, _: switch_on(m)),
    "wait": Deed("SECONDS", "let time pass", lambda m, w: wait(m, float(w[0]))),
}


def perform(fleet: SimFleet, host: str, name: str, words: Sequence[str] = ()) -> str:
    """Do a deed to a host and return one line that says what was done; DeedError when the words are wrong."""
    deed = DEEDS.get(name)
    if deed is None:
        raise DeedError(f"no such deed: {name}; one of {', '.join(DEEDS)}")
    with fleet.open(host) as machine:
        try:
            return deed.run(machine, words)
        except (IndexError, ValueError) as wrong:
            raise wrong if isinstance(wrong, DeedError) else DeedError(f"{name} {deed.words}: {wrong}") from wrong

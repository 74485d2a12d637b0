"""The memory of the lab's GPUs: a daemon on a lab host that grants, counts and takes back.

Programs connect to /run/lab-gpu/gpud.sock and send one JSON line `{"alloc": BYTES, "gpu": INDEX}`; the reply is
`{"ok": true}` or `{"error": "CUDA out of memory. ..."}`. Memory is held while the connection is open and comes back a
while after it closes. The kernel says who is asking (SO_PEERCRED), as this host sees the process, so the pid that NVML
reports is right even for a program in a container. After every change the state file of the NVML shim is replaced.

root on the host steers it over /run/lab-gpud/control.sock, one JSON line each: see `Gpud.control`.

Must not: import anything but the standard library, need Python newer than 3.9, keep anything over a restart.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import selectors
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

GIB = 1 << 30
RUN = "/run/lab-gpu"
CONTROL = "/run/lab-gpud"


class Allocation:
    """Memory somebody holds, or held: `until` is when it comes back (None: not known yet, or never)."""

    def __init__(self, pid: int | None, name: str, gpu: int, size: int) -> None:
        self.pid = pid
        self.name = name
        self.gpu = gpu
        self.size = size
        self.listed = True
        self.until: float | None = None


class Gpud:
    """All state of the daemon; one thread, one selector."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.kind = config["kind"]
        self.gpus: list[dict[str, Any]] = config["gpus"]
        self.held: dict[object, Allocation] = {}
        self.faults: dict[str, Any] = {
            "release_s": config.get("release_s", 0.2),
            "list_after_exit": False,
            "extra": {},
            "cache": 0,
        }
        self.ids = itertools.count()
        self.selector = selectors.DefaultSelector()
        self.meminfo = -1

    # -- what is granted -------------------------------------------------------------------------------------------

    def free(self, gpu: int) -> int:
        """Return the bytes that can be granted on a GPU now."""
        if self.kind == "unified":
            return self.mem_available()
        used = sum(item.size for item in self.held.values() if item.gpu == gpu)
        return int(self.gpus[gpu]["total"]) - int(self.gpus[gpu]["reserved"]) - used

    def alloc(self, pid: int, request: dict[str, Any]) -> tuple[dict[str, Any], object]:
        """Grant memory to `pid` or refuse it as CUDA does; returns (reply, key)."""
        gpu, size = int(request.get("gpu", 0)), int(request["alloc"])
        if not 0 <= gpu < len(self.gpus):
            return {"error": "CUDA error: invalid device ordinal"}, None
        free = self.free(gpu)
        if size > free:
            total = self.gpus[gpu]["total"]
            text = "CUDA out of memory. Tried to allocate %.2f GiB. GPU %d has a total capacity of %.2f GiB"
            text = (text + " of which %.2f GiB is free.") % (size / GIB, gpu, total / GIB, max(free, 0) / GIB)
            return {"error": text}, None
        key = next(self.ids)
        self.held[key] = Allocation(pid, process_name(pid), gpu, size)
        self.publish()
        return {"ok": True}, key

    def closed(self, keys: Iterable[object]) -> None:
        """A program let go (mostly because it ended): its memory comes back after a while, or never."""
        release = self.faults["release_s"]
        for key in keys:
            item = self.held[key]
            item.listed = bool(self.faults["list_after_exit"])
            item.until = None if release is None else time.monotonic() + float(release)
        self.publish()

    def expire(self) -> float | None:
        """Take back what is due; returns the seconds until the next one is, or None."""
        now = time.monotonic()
        due = [key for key, item in self.held.items() if item.until is not None and item.until <= now]
        for key in due:
            del self.held[key]
        if due:
            self.publish()
        waits = [item.until - now for item in self.held.values() if item.until is not None]
        return max(0.0, min(waits)) if waits else None

    # -- what the shim shows ---------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Replace the shim's state file, and the unified host's meminfo."""
        lines = ["%s %s" % pair for pair in self.config.get("system", {}).items()]
        lines.append("count %d" % len(self.gpus))
        for index, gpu in enumerate(self.gpus):
            lines += self.gpu_lines(index, gpu)
        lines += ["%s %s" % pair for pair in self.faults["extra"].items()]
        replace(RUN + "/state", "\n".join(lines) + "\n")
        if self.kind == "unified":
            self.write_meminfo()

    def gpu_lines(self, index: int, gpu: dict[str, Any]) -> list[str]:
        mine = [item for item in self.held.values() if item.gpu == index]
        used = sum(item.size for item in mine) + (self.faults["cache"] if self.kind == "gh200" else 0)
        lines = ["gpu.%d.%s %s" % (index, key, value) for key, value in gpu["facts"].items()]
        if self.kind == "unified":
            lines.append("gpu.%d.mem !3" % index)
        else:
            lines.append("gpu.%d.mem %d %d %d" % (index, gpu["total"], gpu["reserved"], used))
        by_pid: dict[int, int] = {}
        for item in mine:
            if item.listed and item.pid is not None:
                by_pid[item.pid] = by_pid.get(item.pid, 0) + item.size
                lines.append("procname.%d %s" % (item.pid, item.name))
        lines += ["gpu.%d.proc.C.%d %d %d" % (index, n, pid, size) for n, (pid, size) in enumerate(by_pid.items())]
        return lines

    def mem_available(self) -> int:
        total, used = int(self.gpus[0]["total"]), int(self.config.get("system_used", 0))
        return total - used - sum(item.size for item in self.held.values())

    def write_meminfo(self) -> None:
        """Rewrite the file mounted over /proc/meminfo, in one write of constant length, so that no reader sees half."""
        total, available = self.gpus[0]["total"], max(0, self.mem_available())
        free = max(0, available - self.faults["cache"])
        figures: tuple[tuple[str, int], ...] = (
            ("MemTotal", total),
            ("MemFree", free),
            ("MemAvailable", available),
            ("Buffers", 0),
        )
        figures += (("Cached", available - free), ("SwapCached", 0), ("SwapTotal", 0), ("SwapFree", 0))
        text = "".join("%-16s%12d kB\n" % (name + ":", value // 1024) for name, value in figures)
        text += "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n"
        os.pwrite(self.meminfo, text.encode(), 0)

    # -- steering --------------------------------------------------------------------------------------------------

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what root asks: {"status": true} | {"faults": {...}} | {"hold": {...}} | {"reset": true}.

        faults: release_s (seconds after exit, null = never), list_after_exit (the dead pid stays in NVML's list),
        extra (lines for the shim: `{"gpu.0.mem": "!999"}`, `{"sleep.nvmlInit": "60000"}`), cache (bytes of page cache).
        hold: {"gpu": 0, "bytes": N, "pid": PID or null, "name": ..., "seconds": S or null}: memory somebody else took.
        reset: faults and holds are gone, and memory of programs that ended comes back at once.
        """
        if "faults" in request:
            self.faults.update(request["faults"])
        if "hold" in request:
            hold = request["hold"]
            pid = hold.get("pid")
            item = Allocation(pid, hold.get("name", "unknown"), int(hold.get("gpu", 0)), int(hold["bytes"]))
            item.listed = pid is not None
            seconds = hold.get("seconds")
            item.until = None if seconds is None else time.monotonic() + float(seconds)
            self.held["hold-%d" % next(self.ids)] = item
        if request.get("reset"):
            self.faults.update(release_s=self.config.get("release_s", 0.2), list_after_exit=False, extra={}, cache=0)
            live = {key for conversation in self.conversations() for key in conversation.keys}
            self.held = {key: item for key, item in self.held.items() if key in live}
        self.publish()
        return {"kind": self.kind, "faults": self.faults, "held": [vars(item) for item in self.held.values()]}

    def conversations(self) -> list[Conversation]:
        entries = self.selector.get_map().values()
        return [entry.data for entry in entries if isinstance(entry.data, Conversation)]

    # -- the loop --------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        os.makedirs(RUN, mode=0o755, exist_ok=True)
        os.makedirs(RUN + "/faults", exist_ok=True)
        os.makedirs(CONTROL, mode=0o700, exist_ok=True)
        if self.kind == "unified":
            self.meminfo = os.open(RUN + "/meminfo", os.O_RDWR | os.O_CREAT, 0o644)
        self.publish()
        if self.kind == "unified":
            mount_over("/proc/meminfo", RUN + "/meminfo")
            self.selector.register(listen_for_drops(), selectors.EVENT_READ, self.drop_caches)
        self.selector.register(listen(RUN + "/gpud.sock", 0o666), selectors.EVENT_READ, self.alloc)
        self.selector.register(listen(CONTROL + "/control.sock", 0o600), selectors.EVENT_READ, None)
        notify_ready()
        while True:
            for entry, _events in self.selector.select(self.expire()):
                if isinstance(entry.data, Conversation):
                    entry.data.read()
                elif entry.data == self.drop_caches:
                    self.drop_caches(entry.fd)
                else:
                    self.accept(entry.fileobj, entry.data)

    def drop_caches(self, pipe: int) -> None:
        """Do what a number written to /proc/sys/vm/drop_caches does: the page cache is gone."""
        os.read(pipe, 64)
        self.faults["cache"] = 0
        self.publish()

    def accept(self, server: Any, grant: Grant | None) -> None:
        connection, _address = server.accept()
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, Conversation(self, connection, grant))


Grant = Callable[[int, "dict[str, Any]"], "tuple[dict[str, Any], object]"]


class Conversation:
    """One connection: whole lines in, one reply each; what it was granted goes when it closes."""

    def __init__(self, daemon: Gpud, connection: socket.socket, grant: Grant | None) -> None:
        self.daemon = daemon
        self.connection = connection
        self.grant = grant
        self.keys: list[object] = []
        self.buffer = b""
        self.pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def read(self) -> None:
        try:
            data = self.connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.daemon.selector.unregister(self.connection)
            self.connection.close()
            self.daemon.closed(self.keys)
            return
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            with contextlib.suppress(OSError):
                self.connection.sendall(json.dumps(self.answer(line)).encode() + b"\n")

    def answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not self.grant:
                return self.daemon.control(request)
            reply, key = self.grant(self.pid, request)
        except (ValueError, KeyError, TypeError) as problem:
            return {"error": "bad request: %s" % problem}
        if key is not None:
            self.keys.append(key)
        return reply


def process_name(pid: int) -> str:
    """Return the program of a process as NVML would name it."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            return stream.read().split(b"\0")[0].decode("utf-8", "replace") or "unknown"
    except OSError:
        return "unknown"


def replace(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.rename(path + ".new", path)


def mount_over(path: str, source: str) -> None:
    """Let every program of this host see the unified machine's memory; undone when the host ends."""
    with open("/proc/self/mounts", encoding="utf-8") as stream:
        if any(line.split()[1] == path for line in stream):
            subprocess.run(["umount", path], check=True)
    subprocess.run(["mount", "--bind", source, path], check=True)


def listen_for_drops() -> int:
    """Put a pipe where the kernel's own file is: dropping the caches of the real machine is not a lab host's to do."""
    pipe = RUN + "/drop_caches"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pipe)
    os.mkfifo(pipe, 0o600)
    # Open for writing too, so that no writer ever waits for a reader.
    descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    mount_over("/proc/sys/vm/drop_caches", pipe)
    return descriptor


def listen(path: str, mode: int) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    os.chmod(path, mode)
    server.listen(64)
    return server


def notify_ready() -> None:
    """Tell systemd that allocations are answered from now on."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)


def steer(text: str) -> None:
    """Send one control request and print the reply."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(CONTROL + "/control.sock")
        client.sendall(text.encode() + b"\n")
        print(client.makefile().readline().strip())


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the lab's GPU memory, or steer the daemon that does.")
    parser.add_argument("--config", default="/etc/lab-gpu.json")
    parser.add_argument("--control", help="JSON to send to the running daemon")
    options = parser.parse_args()
    if options.control:
        steer(options.control)
        return
    with open(options.config, encoding="utf-8") as stream:
        config = json.load(stream)
    Gpud(config).serve()


if __name__ == "__main__":
    main()

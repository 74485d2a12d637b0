#!/usr/bin/python3
"""Stand-in of the lab for mount.nfs4(8): `mount.nfs4 HOST:/dir /where -o OPTIONS`.

The mount is a file system in user space (fuse, protocol 7.31) that asks the hub for everything, and waits for it for
ever, as `hard` does. 32 and a line on stderr when the hub denies access or cannot be reached.
"""

import base64
import ctypes
import errno
import json
import os
import socket
import stat
import struct
import sys
import time
from typing import Any

PORT = 2049
FIRST_S = 5.0
LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RMDIR, RENAME = 1, 2, 3, 4, 9, 10, 11, 12
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 14, 15, 16, 17, 18, 20, 25, 26
OPENDIR, READDIR, RELEASEDIR, CREATE, INTERRUPT, DESTROY, BATCH_FORGET, RENAME2 = 27, 28, 29, 35, 36, 38, 42, 45
MS_NOSUID, MS_NODEV = 2, 4


class Hub:
    """The other end: one question at a time, asked again until somebody answers."""

    def __init__(self, address: str, root: str) -> None:
        self.address, self.root = address, root
        self.link: socket.socket | None = None

    def connect(self, timeout_s: float) -> None:
        self.link = socket.create_connection((self.address, PORT), timeout=timeout_s)
        self.link.settimeout(None)
        self.lines = self.link.makefile("rb")

    def once(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self.link is not None
        self.link.sendall(json.dumps({**asked, "root": self.root}).encode() + b"\n")
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the hub went away")
        said: dict[str, Any] = json.loads(line)
        return said

    def ask(self, **asked: Any) -> dict[str, Any]:
        while True:
            try:
                if self.link is None:
                    self.connect(2)
                said = self.once(asked)
                break
            except (OSError, ValueError):
                self.link = None
                time.sleep(0.3)
        if "errno" in said:
            raise OSError(said["errno"], said["why"])
        return said


def attr(said: dict[str, Any]) -> bytes:
    times = said["times"]
    return struct.pack(
        "<QQQQQQIIIIIIIIII",
        said["ino"], said["size"], said["blocks"], *(each // 10**9 for each in times),
        *(each % 10**9 for each in times), said["mode"], said["nlink"], said["uid"], said["gid"], 0, 4096, 0,
    )  # fmt: skip


class Files:
    """What the kernel asks, by node; nothing is kept but which path a node is."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.paths, self.nodes = {1: ""}, {"": 1}

    def node(self, path: str) -> int:
        if path not in self.nodes:
            self.nodes[path] = len(self.paths) + 1
            self.paths[self.nodes[path]] = path
        return self.nodes[path]

    def below(self, nodeid: int, name: bytes) -> str:
        return f"{self.paths[nodeid]}/{name.rstrip(bytes(1)).decode()}".strip("/")

    def entry(self, path: str, said: dict[str, Any]) -> bytes:
        return struct.pack("<QQQQII", self.node(path), 0, 0, 0, 0, 0) + attr(said)

    def answer(self, opcode: int, nodeid: int, uid: int, gid: int, body: bytes) -> bytes:
        who = {"uid": uid, "gid": gid}
        path = self.paths.get(nodeid, "")
        if opcode == INIT:
            return struct.pack("<IIIIHHIIHHII6I", 7, 31, 65536, 0, 12, 10, 65536, 1, 16, 0, 0, 0, *([0] * 6))
        if opcode == LOOKUP:
            found = self.below(nodeid, body)
            return self.entry(found, self.hub.ask(do="stat", path=found))
        if opcode == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + attr(self.hub.ask(do="stat", path=path))
        if opcode == SETATTR:
            valid, _, _, size = struct.unpack_from("<IIQQ", body)
            (mode,) = struct.unpack_from("<I", body, 68)
            change = {"size": size if valid & 8 else None, "mode": mode if valid & 1 else None}
            return struct.pack("<QII", 0, 0, 0) + attr(self.hub.ask(do="change", path=path, **change))
        if opcode in (MKDIR, CREATE):
            flags, mode = struct.unpack_from("<II", body) if opcode == CREATE else (0, *struct.unpack_from("<I", body))
            made = self.below(nodeid, body[8 if opcode == MKDIR else 16 :])
            deed = {"do": "create", "flags": flags} if opcode == CREATE else {"do": "mkdir"}
            said = self.hub.ask(**deed, path=made, mode=mode, **who)
            return self.entry(made, said) + (struct.pack("<QII", 0, 0, 0) if opcode == CREATE else b"")
        if opcode in (UNLINK, RMDIR):
            self.hub.ask(do="unlink" if opcode == UNLINK else "rmdir", path=self.below(nodeid, body))
            return b""
        if opcode in (RENAME, RENAME2):
            (where,) = struct.unpack_from("<Q", body)
            old, new = body[16 if opcode == RENAME2 else 8 :].rstrip(bytes(1)).split(bytes(1))
            self.hub.ask(do="rename", path=self.below(nodeid, old), to=self.below(where, new))
            return b""
        if opcode in (OPEN, OPENDIR):
            if opcode == OPEN:
                self.hub.ask(do="open", path=path, flags=struct.unpack_from("<I", body)[0])
            return struct.pack("<QII", 0, 1 if opcode == OPEN else 0, 0)
        if opcode == READ:
            _, at, size = struct.unpack_from("<QQI", body)
            return base64.b64decode(self.hub.ask(do="read", path=path, at=at, size=size)["data"])
        if opcode == WRITE:
            _, at, size = struct.unpack_from("<QQI", body)
            data = base64.b64encode(body[40 : 40 + size]).decode()
            return struct.pack("<II", self.hub.ask(do="write", path=path, at=at, data=data)["size"], 0)
        if opcode == READDIR:
            return self.listing(path, *struct.unpack_from("<QQI", body)[1:])
        if opcode == STATFS:
            return struct.pack(
                "<QQQQQIIII6I", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, 0, *([0] * 6)
            )
        if opcode in (RELEASE, RELEASEDIR, FLUSH, FSYNC, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not of this stand-in")

    def listing(self, path: str, at: int, size: int) -> bytes:
        found = b""
        for number, (name, ino, is_dir) in enumerate(self.hub.ask(do="list", path=path)["names"]):
            if number < at:
                continue
            text = name.encode()
            one = struct.pack("<QQII", ino, number + 1, len(text), 4 if is_dir else 8) + text
            one += bytes(-len(one) % 8)
            if len(found) + len(one) > size:
                break
            found += one
        return found


def serve(device: int, files: Files) -> None:
    while True:
        try:
            asked = os.read(device, 1 << 20)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                continue
            return  # unmounted
        _, opcode, unique, nodeid, uid, gid, _, _ = struct.unpack_from("<IIQQIIII", asked)
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        try:
            status, said = 0, files.answer(opcode, nodeid, uid, gid, asked[40:])
        except OSError as error:
            status, said = -(error.errno or errno.EIO), b""
        try:
            os.write(device, struct.pack("<IiQ", 16 + len(said), status, unique) + said)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return


def main(words: list[str]) -> int:
    what, where = words[0], words[1]
    options = words[words.index("-o") + 1].split(",") if "-o" in words else []
    if "hard" not in options:
        sys.exit("mount.nfs4: the stand-in knows hard mounts only")
    address, _, root = what.rpartition(":")
    hub = Hub(address.strip("[]"), root)
    try:
        hub.connect(FIRST_S)
        said = hub.once({"do": "mount"})
    except (OSError, ValueError) as error:
        print(f"mount.nfs4: mount system call failed for {where}: {error}", file=sys.stderr)
        return 32
    if "errno" in said:
        print(f"mount.nfs4: {said['why']} while mounting {what}", file=sys.stderr)
        return 32
    if not os.path.exists("/dev/fuse"):
        os.mknod("/dev/fuse", stat.S_IFCHR | 0o600, os.makedev(10, 229))
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(what.encode(), where.encode(), b"fuse.nfs4-stand-in", MS_NOSUID | MS_NODEV, data) != 0:
        print(f"mount.nfs4: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return 32
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    serve(device, Files(hub))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

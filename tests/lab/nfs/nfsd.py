"""Stand-in of the lab for the NFS server: answers file by file, to whom the table names, and to nobody else.

One line of JSON asks, one answers; each question stands alone, so that a server which was away goes on where it was.
"""

import base64
import json
import os
import socketserver
from typing import Any

TABLE = "/var/lib/nfs/etab"
NOBODY = 65534


def options_for(directory: str, address: str) -> list[str] | None:
    """Return the options of an export to an address, None when there is none."""
    with open(TABLE) as table:
        for line in table:
            where, _, rest = line.rstrip("\n").partition("\t")
            client, _, options = rest.partition("(")
            if (where, client) == (directory, address):
                return options.rstrip(")").split(",")
    return None


def told(found: os.stat_result) -> dict[str, Any]:
    return {
        "ino": found.st_ino, "size": found.st_size, "blocks": found.st_blocks, "mode": found.st_mode,
        "nlink": found.st_nlink, "uid": found.st_uid, "gid": found.st_gid,
        "times": [found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns],
    }  # fmt: skip


def own(path: str, asked: dict[str, Any], options: list[str]) -> None:
    """Give a new file to who made it; root of a worker is nobody unless the export says otherwise."""
    squashed = "all_squash" in options or ("root_squash" in options and asked["uid"] == 0)
    os.lchown(path, NOBODY if squashed else asked["uid"], NOBODY if squashed else asked["gid"])


def answer(asked: dict[str, Any], options: list[str]) -> dict[str, Any]:
    path = os.path.normpath(asked["root"] + "/" + asked.get("path", ""))
    deed = asked["do"]
    if deed == "mount":
        return {}
    if deed == "stat":
        return told(os.lstat(path))
    if deed == "list":
        return {"names": [[entry.name, entry.inode(), entry.is_dir()] for entry in os.scandir(path)]}
    if deed == "create":
        fd = os.open(path, asked["flags"] & ~os.O_DIRECTORY | os.O_CREAT, asked["mode"] & 0o7777)
        os.close(fd)
        own(path, asked, options)
        return told(os.lstat(path))
    if deed == "mkdir":
        os.mkdir(path, asked["mode"] & 0o7777)
        own(path, asked, options)
        return told(os.lstat(path))
    if deed == "open":
        os.close(os.open(path, asked["flags"] & ~(os.O_CREAT | os.O_EXCL)))
        return {}
    if deed == "read":
        fd = os.open(path, os.O_RDONLY)
        try:
            return {"data": base64.b64encode(os.pread(fd, asked["size"], asked["at"])).decode()}
        finally:
            os.close(fd)
    if deed == "write":
        fd = os.open(path, os.O_WRONLY)
        try:
            return {"size": os.pwrite(fd, base64.b64decode(asked["data"]), asked["at"])}
        finally:
            os.close(fd)
    if deed == "change":
        if asked.get("size") is not None:
            os.truncate(path, asked["size"])
        if asked.get("mode") is not None:
            os.chmod(path, asked["mode"] & 0o7777)
        return told(os.lstat(path))
    if deed == "rename":
        os.rename(path, os.path.normpath(asked["root"] + "/" + asked["to"]))
        return {}
    {"unlink": os.unlink, "rmdir": os.rmdir}[deed](path)
    return {}


class Client(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            asked = json.loads(line)
            options = options_for(asked["root"], self.client_address[0])
            try:
                if options is None:
                    raise PermissionError(13, "access denied by server")
                said = answer(asked, options)
            except OSError as error:
                said = {"errno": error.errno, "why": str(error)}
            self.wfile.write(json.dumps(said).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Server(("0.0.0.0", 2049), Client).serve_forever()

"""The few lines that run on a host before the agent does: find it installed, or take it from the wire into memory.

`SOURCE` is sent with every request and read by one fixed command, so a host needs python3 and nothing of ours. The
installed copy is used only when the sum over its files is the digest that was asked for. Streamed, the modules live in
memory and nothing is written. It is Python 3.9 and the standard library, like the agent.

Must not: decide anything about the host, or do what the agent can do.
"""

from __future__ import annotations

AGENT_ROOT = "/var/lib/recon/agent"
PYTHON = "/usr/bin/python3"

_READER = "import sys;b=sys.stdin.buffer;exec(b.read(int(b.readline())))"


def command(*, sudo: bool) -> str:
    """Return the one command line a host ever gets; everything else travels on its stdin.

    The login shell may be any, so it only has to find /bin/sh; no value is ever part of the line.
    """
    prefix = "sudo -n -- " if sudo else ""
    return f"/bin/sh -c 'exec {prefix}{PYTHON} -I -S -c \"{_READER}\"'"


def program() -> bytes:
    """Return what goes on stdin before the request: the length of the loader on a line, and the loader."""
    source = SOURCE.encode()
    return b"%d\n%b" % (len(source), source)


# Why it is written the way it is:
# - stdout is moved away from descriptor 1 before anything else runs, so that no stray print can get into a frame.
# - the alarm ends a request whose host hangs after the controller has gone; requests are short, transitions are not
#   requests (they run in their own unit).
# - `get_source` lets a traceback of a streamed agent show its lines.
# - no collector of garbage: a request ends before there is enough of it to be worth a search.
# - the sum is over bytes, not over a document: the files of an installed agent are read, summed up and forgotten.
# - few imports: every millisecond here is paid on every host in every request.
SOURCE = (
    r'''
import gc, hashlib, json, os, signal, sys, zlib
from importlib.machinery import ModuleSpec
ROOT = "'''
    + AGENT_ROOT
    + r""""
sys.dont_write_bytecode = True
gc.disable()
signal.alarm(300)
out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)


def frame(magic):
    head = b.readline(64)
    if not head.startswith(magic + b" "):
        raise EOFError("no " + magic.decode() + " frame")
    body = b.read(int(head[len(magic):]))
    if len(body) != int(head[len(magic):]):
        raise EOFError("cut short")
    return body


def reply(document):
    body = json.dumps(document, separators=(",", ":")).encode()
    out.write(b"\nRECON1 %d\n%b" % (len(body), body))
    out.flush()


def total(files):
    found = hashlib.sha256()
    for name in sorted(files):
        found.update(b"%b %d\n%b" % (name.encode(), len(files[name]), files[name]))
    return found.hexdigest()


def read_installed(place):
    with open(os.path.join(place, ".ok"), "rb") as mark:
        if mark.read(256) != os.path.basename(place).encode() + b"\n":
            return None
    files = {}
    for top, names, found in os.walk(place):
        names[:] = [name for name in names if name != "__pycache__"]
        for name in found:
            path = os.path.join(top, name)
            short = os.path.relpath(path, place)
            if name.endswith(".py") and short != "__main__.py":
                with open(path, "rb", 0) as source:
                    files[short] = source.read()
    return files


class Memory:
    def __init__(self, files):
        self.files = files

    def find_spec(self, fullname, path=None, target=None):
        base = fullname.replace(".", "/")
        for name, package in ((base + "/__init__.py", True), (base + ".py", False)):
            if name in self.files:
                return ModuleSpec(fullname, self, origin="<recon>/" + name, is_package=package)

    def create_module(self, spec):
        return None

    def get_source(self, fullname):
        spec = self.find_spec(fullname)
        return self.files[spec.origin[len("<recon>/"):]] if spec else None

    def exec_module(self, module):
        origin = module.__file__ = module.__spec__.origin
        text = self.files[origin[len("<recon>/"):]]
        exec(compile(text, origin, "exec", dont_inherit=True), module.__dict__)


def prepare(digest, root):
    place = os.path.join(root, digest)
    try:
        files = read_installed(place)
    except (OSError, ValueError):
        files = None
    if files is not None and total(files) == digest:
        sys.path.insert(0, place)
        return {"digest": digest, "mode": "installed", "bundle": None}
    out.write(b"\nRECON1-NEED " + digest.encode() + b"\n")
    out.flush()
    files = json.loads(zlib.decompress(frame(b"RECON1-BUNDLE")))
    if total({name: text.encode() for name, text in files.items()}) != digest:
        raise ValueError("the agent that came over the wire is not the one that was named")
    sys.meta_path.insert(0, Memory(files))
    return {"digest": digest, "mode": "streamed", "bundle": files}


def own_root():
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_dir.rstrip("/") + "/.local/state/recon/agent"


def failed(exc):
    code = getattr(exc, "code", None)
    if isinstance(code, str):
        return {key: str(getattr(exc, key, "")) for key in ("code", "summary", "detail", "fix")}
    import traceback

    last = traceback.extract_tb(exc.__traceback__)[-1]
    detail = "%s: %s (%s:%d)" % (type(exc).__name__, exc, last.filename, last.lineno)
    return {"code": "REC5014", "summary": "the agent failed on the host", "detail": detail, "fix": "report it"}


def main():
    request = json.loads(frame(b"RECON1"))
    digest = request["digest"]
    if request["protocol"] != 1 or len(digest) != 64 or digest.strip("0123456789abcdef"):
        raise ValueError("not a request this loader knows")
    is_users = request.get("scope") == "user"
    context = prepare(digest, own_root() if is_users else ROOT)
    from recon_agent.dispatch import handle
    from recon_agent.real import RealMachine

    machine = RealMachine()
    if is_users:
        from recon_agent.user_scope import UserMachine

        machine = UserMachine(machine)
    return handle(machine, request["verb"], request["args"], context)


try:
    answer = {"ok": True, "reply": main()}
except Exception as exc:
    answer = dict(failed(exc), ok=False)
reply(answer)
"""
)

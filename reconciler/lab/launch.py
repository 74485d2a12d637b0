"""Run one command inside a control group and a private mount namespace, optionally on an overlay.

A program of its own, run by path with the standard library alone and as few modules as it needs, so that it starts
fast: every command on every host goes through it. The private namespace is
what makes clean-up certain: when the last process is gone, the kernel drops every mount made here.

Must not: import anything of ours, stay around (it replaces itself with the command).

    launch.py [--cgroup DIR] [--detach LOG] [--overlay LOWER UPPER WORK ROOT] [--tmpfs DIR]... -- ARGV...
"""

from __future__ import annotations

import os
import sys

_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000


def _call(what: str, name: str, *words: object) -> None:
    import ctypes  # most commands mount nothing

    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*words) != 0:
        raise SystemExit(f"launch: {what}: {os.strerror(ctypes.get_errno())}")


def _mount(kind: str, source: str, target: str, data: str) -> None:
    words = (source.encode(), target.encode(), kind.encode(), 0, data.encode())
    _call(f"mount {kind} on {target}", "mount", *words)


def _private_mounts() -> None:
    _call("new mount namespace", "unshare", _CLONE_NEWNS)
    _call("make mounts private", "mount", b"none", b"/", None, _MS_REC_PRIVATE, None)


def _detach(log: str) -> None:
    """Go on as a child in a session of its own that writes to `log`; the process that was started ends well."""
    if os.fork():
        os._exit(0)
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDWR)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


def main(argv: list[str]) -> None:
    """Do what the options say, in order, then become the command after `--`."""
    cut = argv.index("--")
    options, command = argv[:cut], argv[cut + 1 :]
    private = False
    while options:
        option = options.pop(0)
        if option == "--cgroup":
            # pathlib takes longer to import than all the rest
            with open(f"{options.pop(0)}/cgroup.procs", "w") as processes:  # noqa: PTH123
                processes.write(str(os.getpid()))
            continue
        if option == "--detach":
            _detach(options.pop(0))
            continue
        if not private:
            _private_mounts()
            private = True
        if option == "--overlay":
            lower, upper, work, root = (options.pop(0) for _ in range(4))
            _mount("overlay", "overlay", root, f"lowerdir={lower},upperdir={upper},workdir={work}")
        elif option == "--tmpfs":
            _mount("tmpfs", "tmpfs", options.pop(0), "size=4m")
        else:
            raise SystemExit(f"launch: unknown option {option}")
    os.execvp(command[0], command)  # noqa: S606 -- becoming the command is what this program is for


if __name__ == "__main__":
    main(sys.argv[1:])

"""The container image of the lab's model server: Python from the base, nothing else, in a store all hosts share.

Must not: need a registry or a network; write outside the layer that is being built.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

from reconciler.errors import Problem
from reconciler.lab.tools import LabError, launch_argv, run_tool

NAME = "localhost/recon-lab/model-server"
TAG = "1"
STORE_ON_HOST = "/usr/lib/recon-lab/images"

_LIBRARY = "/usr/lib/recon-lab"
# The standard library without what a small HTTP server never imports.
_LEFT_OUT = {
    "test",
    "idlelib",
    "turtledemo",
    "ensurepip",
    "tkinter",
    "lib2to3",
    "pydoc_data",
    "unittest",
    "sqlite3",
    "curses",
}


def build(debian: Path, server: Path, target: Path, overlay: tuple[str, ...]) -> str:
    """Import the image of the package `server` into `target/images`; return its reference by digest.

    The base's own podman does it, so that the store is of the version that reads it.
    """
    archive = target / "image.tar"
    _write_archive(archive, debian, server)
    store = target / "images"
    root = Path(overlay[-1])
    # nspawn gives podman the /proc, /dev and mounts a bare chroot lacks. Its storage must not lie on an overlay.
    nspawn = ["systemd-nspawn", "--quiet", "--directory", str(root), f"--machine=recon-lab-{os.getpid()}", "--as-pid2"]
    nspawn += ["--register=no", "--keep-unit", "--settings=no", "--resolv-conf=off", "--timezone=off", "--console=pipe"]
    nspawn += ["--capability=all", "--system-call-filter=add_key keyctl bpf"]
    nspawn += ["--setenv=PODMAN_IGNORE_CGROUPSV1_WARNING=1"]
    nspawn += [f"--bind={store}:{STORE_ON_HOST}", f"--bind-ro={archive}:/image.tar"]
    # A root of its own: storage.conf names the same directory as a read-only additional store.
    podman = ["podman", f"--root={STORE_ON_HOST}", "--storage-opt=additionalimagestore=", "--storage-driver=overlay"]
    entry = 'ENTRYPOINT ["/usr/bin/python3", "-E", "-s", "-S", "-B", "-m", "model_server"]'
    options = (*overlay, "--tmpfs", "/run/systemd")
    importing = [
        *podman,
        "import",
        "--quiet",
        "--change",
        entry,
        "--change",
        f"WORKDIR {_LIBRARY}",
        "/image.tar",
        f"{NAME}:{TAG}",
    ]
    run_tool(launch_argv([*nspawn, *importing], *options), what="podman import")
    asking = [*podman, "image", "inspect", "--format", "{{.Digest}}", f"{NAME}:{TAG}"]
    digest = run_tool(launch_argv([*nspawn, *asking], *options), what="podman image inspect").decode().strip()
    archive.unlink()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        detail = f"podman gave {digest[:200]!r} as the digest of {NAME}"
        raise LabError(Problem("REC0902", "a tool of the lab failed", detail, "recon lab gc"))
    return f"{NAME}@{digest}"


def _write_archive(archive: Path, debian: Path, server: Path) -> None:
    python = next(path for path in sorted((debian / "usr/bin").glob("python3.*")) if path.name[8:].isdigit())
    library = debian / "usr/lib" / python.name
    with tarfile.open(archive, "w") as tar:
        for link in ("bin", "lib", "lib64"):
            if (debian / link).is_symlink():
                tar.add(debian / link, link, recursive=False)
        _directories(tar, "dev", "proc", "sys", "run", "tmp", "etc", "srv")
        tar.add(python, f"usr/bin/{python.name}")
        tar.add(debian / "usr/bin/python3", "usr/bin/python3", recursive=False)
        tar.add(library, f"usr/lib/{python.name}", filter=_needed)
        for path in _shared_objects(debian, python, library):
            tar.add(path, str(path.relative_to(debian)))
        for module in sorted(server.glob("*.py")):
            tar.add(module, f"{_LIBRARY}/model_server/{module.name}")


def _directories(tar: tarfile.TarFile, *names: str) -> None:
    for name in names:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT & set(Path(entry.name).parts) else entry


def _shared_objects(debian: Path, python: Path, library: Path) -> list[Path]:
    """Return the libraries the interpreter and its modules load, and the loader, by the base's own `ldd`."""
    modules = [f"/{path.relative_to(debian)}" for path in sorted(library.glob("lib-dynload/*.so"))]
    names: set[str] = set()
    for program in (f"/{python.relative_to(debian)}", *modules):
        listing = run_tool(["chroot", str(debian), "ldd", program], what="ldd").decode()
        names |= {word for word in listing.split() if word.startswith("/")}
    found: set[Path] = set()
    for name in names:
        path = debian / name.lstrip("/")
        # /lib is a link to usr/lib and a library is a link to its version: both files, under their real directory.
        real = path.parent.resolve() / path.name
        found |= {real, real.resolve()}
    return sorted(found)

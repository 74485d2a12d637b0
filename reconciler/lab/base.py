"""The root file system that every lab host shares, built once and kept by the digest of its recipe.

Two read-only layers: Debian from mmdebstrap (40 s), and ours on top (4 s), so that a change to a host file does not
fetch Debian again. Everything a host needs is baked in, so that it boots without writing much.

Must not: change anything outside the cache directory, leave a half-built layer under its final name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.lab import image
from reconciler.lab.tools import cache_dir, launch_argv, make_directory, run_tool, write_file

SUITE = "trixie"
PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,podman,crun,netavark,aardvark-dns,iproute2,nftables,procps,python3,"
    "busybox-static,curl,sudo,ca-certificates,uidmap"
)
MODEL_PATHS = ("reasoning", "vision", "embeddings")
HOSTFILES = Path(__file__).with_name("hostfiles")

# Nothing of a lab host's life depends on these; each costs boot time, ten hosts at once on two cores.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "console-getty.service",
    "container-getty@.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "systemd-hwdb-update.service",
    "ldconfig.service",
    "systemd-firstboot.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrmachine.service",
    "systemd-tpm2-setup.service",
    "systemd-tpm2-setup-early.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "modprobe@.service",
    "systemd-modules-load.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "ssh.socket",
    "sshd-keygen.service",
    "podman-auto-update.timer",
    "systemd-userdbd.socket",
    "nftables.service",
)

# Every reload of every host runs them all, and none finds anything on a host of the lab (systemd.generator(7)).
_MASKED_GENERATORS = (
    "system-generators/systemd-cryptsetup-generator",
    "system-generators/systemd-debug-generator",
    "system-generators/systemd-getty-generator",
    "system-generators/systemd-gpt-auto-generator",
    "system-generators/systemd-hibernate-resume-generator",
    "system-generators/systemd-integritysetup-generator",
    "system-generators/systemd-rc-local-generator",
    "system-generators/systemd-run-generator",
    "system-generators/systemd-ssh-generator",
    "system-generators/systemd-system-update-generator",
    "system-generators/systemd-sysv-generator",
    "system-generators/systemd-tpm2-generator",
    "system-generators/systemd-veritysetup-generator",
    "user-generators/systemd-xdg-autostart-generator",
)

_FILES = {
    # The nested host has no cgroup controllers and no keyrings of its own.
    "etc/containers/containers.conf.d/lab.conf": "[containers]\npids_limit=0\nkeyring=false\n",
    "etc/containers/storage.conf": (
        '[storage]\ndriver = "overlay"\n'
        'runroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
        f'[storage.options]\nadditionalimagestores = ["{image.STORE_ON_HOST}"]\n'
    ),
    "etc/sudoers.d/recon": "recon ALL=(root) NOPASSWD: ALL\n",
    "etc/ssh/sshd_config.d/lab.conf": "HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nUseDNS no\n",
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n",
    "etc/systemd/system.conf.d/lab.conf": "[Manager]\nLogLevel=notice\n",
    # There is no PAM module of systemd here, so nobody else would tell a user's manager where its directory is.
    "etc/systemd/system/user@.service.d/lab.conf": "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n",
    # The bus of a user's manager, as Debian's dbus-user-session has it; the package itself brings a PAM module that
    # boots a manager for every login. Without a bus podman keeps its pause process in the unit that came first.
    "etc/systemd/user/dbus.socket": "[Socket]\nListenStream=%t/bus\n",
    "etc/systemd/user/dbus.service": (
        "[Unit]\nRequires=dbus.socket\n[Service]\nType=notify\n"
        "ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation "
        "--syslog-only\n"
    ),
    "etc/tmpfiles.d/lab-gpu.conf": "".join(
        f"c /dev/{node} 0666 root root - 1:3\n" for node in ("nvidiactl", "nvidia-uvm", "nvidia0")
    ),
}


@dataclass(frozen=True, slots=True)
class Base:
    """A finished base: overlay lower layers (top first), the shared image store, and the model server by digest."""

    layers: tuple[str, ...]
    image_store: str
    image: str


def ensure(progress: Callable[[str], None]) -> Base:
    """Return the base of the current recipe, building what is not in the cache yet."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    debian = cache / f"debian-{_digest(SUITE, PACKAGES)}"
    layer = cache / f"layer-{_recipe_digest(debian.name)}"
    with _only_one(cache / "build.lock"):
        if not debian.exists():
            progress(f"building the root file system ({SUITE}) in {cache}: about a minute, once")
            with _staged(debian) as target:
                _build_debian(target)
        if not layer.exists():
            progress("adding the lab's own layer and container image")
            with _staged(layer) as target:
                _build_layer(debian, target)
    reference = json.loads((layer / "image.json").read_bytes())["reference"]
    return Base(layers=(str(layer / "tree"), str(debian)), image_store=str(layer / "images"), image=reference)


def prune(used: Iterable[Base]) -> None:
    """Remove layers of older recipes, except those that hosts stand on now."""
    cache = cache_dir()
    if not cache.is_dir():
        return
    debian = f"debian-{_digest(SUITE, PACKAGES)}"
    kept = {debian, f"layer-{_recipe_digest(debian)}"}
    kept |= {Path(layer).relative_to(cache).parts[0] for base in used for layer in base.layers}
    with _only_one(cache / "build.lock"):
        for path in (*cache.glob("debian-*"), *cache.glob("layer-*")):
            if path.name not in kept:
                shutil.rmtree(path)


def _digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8) + data)
    return total.hexdigest()[:12]


def _recipe_digest(debian: str) -> str:
    hostfiles = sorted(path for path in HOSTFILES.rglob("*") if path.suffix in {".c", ".py", ".service"})
    return _digest(debian, *(path.read_bytes() for path in (*hostfiles, Path(__file__), Path(image.__file__))))


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Let two runs not build the same thing twice; the second waits and finds it done."""
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _staged(final: Path) -> Iterator[Path]:
    """Build in a directory beside `final` and rename it at the end; a failed build leaves nothing."""
    staging = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        target = staging / "built"
        make_directory(target)
        yield target
        target.rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _build_debian(target: Path) -> None:
    excluded = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in excluded]
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase", *options]
    run_tool([*argv, f"--include={PACKAGES}", SUITE, str(target)], what="mmdebstrap")
    # Each host gets an identity of its own; the shared files have none.
    for pattern in ("etc/ssh/ssh_host_*", "var/cache/apt/*.bin", "var/lib/dbus/machine-id"):
        for path in target.glob(pattern):
            path.unlink()
    (target / "etc/machine-id").write_bytes(b"")


def _build_layer(debian: Path, target: Path) -> None:
    """Fill `target` with tree/ (an overlay layer over `debian`), images/ (an image store) and image.json."""
    tree, images = target / "tree", target / "images"
    for place in (tree, images, target / "work", target / "root"):
        make_directory(place)
    for name, text in _FILES.items():
        write_file(tree / name, text)
    (tree / "etc/sudoers.d/recon").chmod(0o440)
    _units(tree)
    write_file(tree / "opt/recon-lab/lab_gpud.py", (HOSTFILES / "lab_gpud.py").read_bytes())
    for name in MODEL_PATHS:
        write_file(tree / "srv/models" / name / "config.json", b'{"architectures": ["LabModel"]}\n')
    _compile_shim(debian, tree)

    in_root = _Chroot(debian, target)
    in_root.run(["useradd", "--create-home", "--shell", "/bin/bash", "recon"])
    in_root.run(["ldconfig"])
    in_root.run(["python3", "-m", "compileall", "-q", "/opt/recon-lab"])
    reference = image.build(debian, HOSTFILES / "model_server", target, in_root.overlay)
    write_file(target / "image.json", json.dumps({"reference": reference}).encode())
    shutil.rmtree(target / "work")
    shutil.rmtree(target / "root")


def _units(tree: Path) -> None:
    system = tree / "etc/systemd/system"
    wants = system / "multi-user.target.wants"
    wants.mkdir(parents=True)
    for unit in _MASKED:
        (system / unit).symlink_to("/dev/null")
    for generator in _MASKED_GENERATORS:
        path = tree / "etc/systemd" / generator
        path.parent.mkdir(exist_ok=True)
        path.symlink_to("/dev/null")
    write_file(system / "lab-gpud.service", (HOSTFILES / "lab-gpud.service").read_bytes())
    sockets = tree / "etc/systemd/user/sockets.target.wants"
    sockets.mkdir()
    (sockets / "dbus.socket").symlink_to("/etc/systemd/user/dbus.socket")
    (wants / "lab-gpud.service").symlink_to("/etc/systemd/system/lab-gpud.service")
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")


def _compile_shim(debian: Path, tree: Path) -> None:
    """Put the NVML stand-in where the loader of the host finds it, as the driver package does."""
    libraries = next(path.parent.relative_to(debian) for path in debian.glob("usr/lib/*/libc.so.6"))
    target = tree / libraries / "libnvidia-ml.so.1"
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wl,-soname,libnvidia-ml.so.1"]
    run_tool(["cc", *flags, "-o", str(target), str(HOSTFILES / "fakenvml.c")], what="cc fakenvml.c")


class _Chroot:
    """Commands inside the layers, mounted as an overlay for the length of one command each."""

    def __init__(self, debian: Path, target: Path) -> None:
        self.overlay = ("--overlay", str(debian), str(target / "tree"), str(target / "work"), str(target / "root"))
        self._root = str(target / "root")

    def run(self, argv: list[str]) -> None:
        run_tool(launch_argv(["chroot", self._root, *argv], *self.overlay), what=argv[0])

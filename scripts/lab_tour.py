"""`make lab`: two real hosts (systemd, sshd, podman): plan, apply, switch, plan, and what systemd and podman say.

Needs root on Debian. The hosts are gone when it ends, however it ends.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

RECON = Path(sys.executable).with_name("recon")


def run(*argv: str, expect: int = 0) -> None:
    """Show a command, run it, and stop the tour when it ends otherwise than it should."""
    print(f"\n$ recon {' '.join(argv)}", flush=True)
    code = subprocess.run([str(RECON), *argv], check=False).returncode
    if code != expect:
        sys.exit(f"recon ended with {code}, expected {expect}")


def tour(root: Path) -> None:
    """Show the main job on the hosts of a lab that is up."""
    at = ("-C", str(root))
    ssh = ("lab", "ssh", "--dir", str(root), "lab-1", "--")
    run(*at, "plan", "--detailed-exitcode", expect=2)
    run(*at, "apply", "--yes")
    run(*ssh, "podman", "ps")
    file = root / "desired" / "hosts" / "lab-1.yaml"
    file.write_text(re.sub(r"(?m)^coven: .*$", "coven: vision", file.read_text(encoding="utf-8")), encoding="utf-8")
    print("\n-- desired/hosts/lab-1.yaml now says `coven: vision`", flush=True)
    run(*at, "plan", "--detailed-exitcode", expect=2)
    run(*at, "apply", "--yes")
    run(*at, "plan", "--detailed-exitcode", expect=0)
    run(*at, "status")
    run(*ssh, "systemctl", "list-units", "--no-pager", "--plain", "recon-*")
    run(*ssh, "podman", "ps")
    run(*ssh, "readlink", "/etc/containers/systemd/recon")


def main() -> None:
    """Boot, tour, take down."""
    with tempfile.TemporaryDirectory(prefix="recon-lab-") as scratch:
        root = Path(scratch) / "lab"
        run("lab", "up", "--hosts", "2", "--dir", str(root))
        try:
            tour(root)
        finally:
            run("lab", "down", "--dir", str(root))


if __name__ == "__main__":
    main()

"""Install the Debian packages the lab needs and this computer lacks: as root, on Debian, only what is missing.

Must not: install anything elsewhere, fail where the lab is merely unavailable and not required.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from reconciler.lab import tools


def main() -> int:
    """Return 0 when the lab can run or need not; 1 when RECON_LAB=require and it cannot."""
    missing = tools.missing_packages()
    if missing and os.geteuid() == 0 and Path("/etc/debian_version").exists():
        sys.stderr.write(f"lab-deps: installing {' '.join(missing)}\n")
        install(missing)
    try:
        tools.check()
    except tools.LabUnavailableError as problem:
        sys.stderr.write(f"WARNING: {problem.reason}: every real-host test will be skipped\n")
        return 1 if os.environ.get("RECON_LAB") == "require" else 0
    return 0


def install(packages: list[str]) -> None:
    """Install packages, asking nothing; the lists are fetched first, for a fresh machine has none."""
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for argv in (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.stderr.write(done.stdout[-3000:] + f"lab-deps: failed: {' '.join(argv)}\n")
            return


if __name__ == "__main__":
    raise SystemExit(main())

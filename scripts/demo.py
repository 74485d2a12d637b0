"""`make demo`: the main job from end to end on simulated hosts: plan, apply, a switch with a drain, nothing left to do.

Needs no root and no GPU. Every line beginning with `$` is a command that is really run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

RECON = Path(sys.executable).with_name("recon")


def run(studio: Path, *argv: str, expect: int = 0) -> None:
    """Show a command, run it, and stop the demo when it ends otherwise than it should."""
    line = f"$ recon {' '.join(argv)}"
    print(f"\n\033[1m{line}\033[0m" if sys.stdout.isatty() else f"\n{line}", flush=True)
    code = subprocess.run([str(RECON), *argv], cwd=studio, check=False).returncode
    if code != expect:
        sys.exit(f"recon ended with {code}, expected {expect}")


def change_coven(studio: Path, host: str, coven: str) -> None:
    """Change the one line a pull request changes."""
    file = studio / "desired" / "hosts" / f"{host}.yaml"
    text = re.sub(r"(?m)^coven: .*$", f"coven: {coven}", file.read_text(encoding="utf-8"))
    file.write_text(text, encoding="utf-8")
    print(f"\n-- desired/hosts/{host}.yaml now says `coven: {coven}`", flush=True)


def main() -> None:
    """Play the demo in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="recon-demo-") as scratch:
        studio = Path(scratch) / "studio"
        run(Path(scratch), "init", "studio", "--sim")
        run(studio, "plan", "--host", "spark-1", "--detailed-exitcode", expect=2)
        run(studio, "apply", "--yes")
        run(studio, "status")
        print("\n-- a client asks reasoning on spark-1 for an answer that takes 20 seconds", flush=True)
        run(studio, "sim", "do", "spark-1", "requests", "reasoning", "20")
        change_coven(studio, "spark-1", "vision")
        run(studio, "plan", "--detailed-exitcode", expect=2)
        run(studio, "apply", "--yes")
        run(studio, "plan", "--detailed-exitcode", expect=0)
        run(studio, "status")
        print("\nThat was the main job. Next: docs/tutorial.md, or `recon init DIR` for your own hosts.", flush=True)


if __name__ == "__main__":
    main()

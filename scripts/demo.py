"""`make demo`: the main job from end to end on simulated hosts: plan, apply, a switch with a drain, nothing left to do.

Needs no root and no GPU. Every line beginning with `$` is a command that is really run.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

RECON = Path(sys.executable).with_name("recon")


def run(studio: Path, *argv: str, expect: int = 0) -> None:
    """Show a command, run it, and stop the demo when it ends otherwise than it should."""
    line = f"$ recon {shlex.join(argv)}"
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


def declare_window(studio: Path, host: str, coven: str) -> None:
    """Let a host run another coven by night."""
    file = studio / "desired" / "hosts" / f"{host}.yaml"
    window = f'{{coven: {coven}, from: "02:00", to: "04:00", days: Mon..Fri}}'
    file.write_text(file.read_text(encoding="utf-8") + f"schedule:\n  - {window}\n", encoding="utf-8")
    print(f"\n-- desired/hosts/{host}.yaml now has a window:\n   {window}", flush=True)


LOOP = """root: /srv/spiral
units:
  worker: {argv: [/srv/spiral/worker], lane: gpu, memory: 1GiB, limits: {memory: 8GiB, tasks: 128}}
  feeder: {argv: [/srv/spiral/feeder], lane: cpu, producer: true, limits: {memory: 1GiB, tasks: 64}}
control: {file: /srv/spiral/control.json, keys: {jobs_per_hour: limits.jobs_per_hour}}
convergence: {file: /srv/spiral/state.json, key: converged}
reaper: {paths: [/srv/spiral/renders], keep: {bytes: 200GiB}}
"""


def spiral(studio: Path) -> None:
    """Switch the research loop on: refused until every guardrail holds, stopped at once, lifted again."""
    print("\n-- desired/workloads/spiral.yaml declares the research loop, and gh-1 enables it", flush=True)
    (studio / "desired" / "workloads").mkdir()
    (studio / "desired" / "workloads" / "spiral.yaml").write_text(LOOP, encoding="utf-8")
    host = studio / "desired" / "hosts" / "gh-1.yaml"
    flag = "spiral: {enabled: true, rate_caps: {jobs_per_hour: 12}}\n"
    host.write_text(host.read_text(encoding="utf-8") + flag, encoding="utf-8")
    run(studio, "plan", "--host", "gh-1", expect=3)
    print("\n-- somebody makes its directory, and its control and state files", flush=True)
    run(studio, "sim", "do", "gh-1", "file", "/srv/spiral/control.json", "{}")
    run(studio, "sim", "do", "gh-1", "file", "/srv/spiral/state.json", '{"converged": false}')
    run(studio, "sim", "do", "gh-1", "file", "/srv/spiral/renders/first", "x")
    run(studio, "apply", "--yes", "--host", "gh-1")
    run(studio, "down", "--host", "gh-1", "--reason", "too hot")
    run(studio, "plan", "--host", "gh-1")
    run(studio, "up", "--host", "gh-1", "--reason", "cool again")
    run(studio, "plan", "--host", "gh-1", "--detailed-exitcode")


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
        declare_window(studio, "spark-1", "embeddings")
        run(studio, "apply", "--yes")
        run(studio, "schedule")
        print("\n-- the night comes, and nobody is at a keyboard", flush=True)
        run(studio, "sim", "do", "spark-1", "wait", "8100")
        run(studio, "status", "--host", "spark-1")
        run(studio, "plan", "--detailed-exitcode", expect=0)
        spiral(studio)
        print("\nThat was the main job. Next: docs/tutorial.md, or `recon init DIR` for your own hosts.", flush=True)


if __name__ == "__main__":
    main()

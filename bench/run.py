"""`make bench`: every speed promise as a figure measured in this run, with what it is compared to.

Never asserts; it prints. The part on hosts needs root and boots ten lab hosts, which are gone when it ends.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.offline import make_fleet
from bench.plan_vs_ssh import raw_probe
from reconciler.lab.labs import open_lab
from reconciler.workflow.repository import open_repository

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
RECON = [PYTHON, "-m", "reconciler"]


def timed(argv: Sequence[str], *, ok: tuple[int, ...] = (0,)) -> float:
    """Return the seconds a command takes; it must end as expected."""
    began = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, check=False)
    took = time.perf_counter() - began
    if done.returncode not in ok:
        sys.exit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stderr.decode()}")
    return took


def paired(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Return the medians of two measurements taken in turn, so that a slow moment hits both."""
    pairs = [(first(), second()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def line(name: str, value: str, goal: str) -> None:
    """Print one figure."""
    print(f"{name:<58} {value:<34} goal {goal}", flush=True)


def bench_commands() -> None:
    """Compare `recon --help` and `recon validate` with a bare `import typer`."""
    recon = str(Path(PYTHON).parent / "recon")
    with tempfile.TemporaryDirectory() as scratch:
        studio = Path(scratch) / "studio"
        timed([*RECON, "init", str(studio), "--sim"])
        for words in (["--help"], ["-C", str(studio), "validate"]):
            argv = [recon, *words]
            took, bare = paired(functools.partial(timed, argv), lambda: timed([PYTHON, "-c", "import typer"]), 9)
            line(f"recon {words[-1]} / import typer", f"{took / bare:.2f} x ({took:.3f} s / {bare:.3f} s)", "<= 2.5 x")


def bench_offline(hosts: int) -> None:
    """Plan a big fleet from recorded observations in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "big"
        recorded = record_observation(Path(scratch))
        make_fleet(root, Path(scratch) / "studio", hosts)
        done = subprocess.run(
            [PYTHON, "-m", "bench.offline", str(root), str(recorded)], capture_output=True, check=True, cwd=ROOT
        )
        figures = json.loads(done.stdout)
    took = f"{figures['total_s']:.2f} s ({figures['cpu_s']:.2f} s of processor)"
    line(f"offline plan of {hosts} hosts", f"{took}, {figures['peak_mib']:.0f} MiB", "<= 10 s, 1 GiB")
    print("   " + ", ".join(f"{name} {value}" for name, value in figures.items()), flush=True)


def record_observation(scratch: Path) -> Path:
    """Return a file with one simulated host's answer, taken after an apply."""
    studio = scratch / "studio"
    subprocess.run([*RECON, "init", str(studio), "--sim"], check=True, capture_output=True, cwd=ROOT)
    timed([*RECON, "-C", str(studio), "apply", "--yes", "--host", "spark-1"])
    done = subprocess.run(
        [*RECON, "-C", str(studio), "status", "--host", "spark-1", "-o", "json"], check=True, capture_output=True
    )
    answer = json.loads(done.stdout)["hosts"]["spark-1"]
    answer.pop("reachable")
    target = scratch / "observed.json"
    target.write_text(json.dumps(answer), encoding="utf-8")
    return target


def bench_lab(hosts: int) -> None:
    """Boot hosts, then time plans, agents and a switch on them."""
    with tempfile.TemporaryDirectory(prefix="recon-bench-") as scratch:
        root = Path(scratch) / "lab"
        timed([*RECON, "lab", "up", "--hosts", str(hosts), "--dir", str(root)])
        try:
            measure_lab(root, hosts)
        finally:
            timed([*RECON, "lab", "down", "--dir", str(root)])


def measure_lab(root: Path, hosts: int) -> None:
    """Print what plans and switches cost on booted hosts."""
    plan = [*RECON, "-C", str(root), "plan"]
    streamed = statistics.median(timed(plan) for _ in range(3))
    line(f"recon plan, {hosts} hosts never enrolled (agent streamed)", f"{streamed:.2f} s", "agent <= 1 s")
    timed([*RECON, "-C", str(root), "apply", "--yes"])
    raw = raw_probe(open_repository(root).fleet, root)
    planned, bare = paired(lambda: timed(plan), raw, 7)
    line(
        f"recon plan / raw parallel ssh, {hosts} hosts",
        f"{planned / bare:.2f} x ({planned:.3f} s / {bare:.3f} s)",
        "<= 1.5 x",
    )
    agent_share(root, hosts)
    switch_share(root)


def agent_share(root: Path, hosts: int) -> None:
    """Print what an observation costs on the hosts themselves: the time, one after another, and the CPU."""
    names = [f"lab-{number}" for number in range(1, hosts + 1)]
    alone = [elapsed_ms(root, name)[name] for name in names]
    line("agent on the host, one after another", figures(alone), "<= 150 ms")
    together = elapsed_ms(root)
    print(f"   all {hosts} at once on this computer's CPUs: {figures(list(together.values()))}", flush=True)
    print(f"   CPU of one observation, the whole host: {cpu_ms(root, names[0]):.0f} ms", flush=True)


def elapsed_ms(root: Path, *names: str) -> dict[str, float]:
    """Return what agents say that their observation took, by host."""
    only = [word for name in names for word in ("--host", name)]
    done = subprocess.run([*RECON, "-C", str(root), "status", "-o", "json", *only], check=True, capture_output=True)
    return {name: host["agent"]["elapsed_ms"] for name, host in json.loads(done.stdout)["hosts"].items()}


def figures(costs: Sequence[float]) -> str:
    """Return median and maximum of milliseconds."""
    return f"median {statistics.median(costs):.0f} ms, max {max(costs):.0f} ms"


def cpu_ms(root: Path, name: str, rounds: int = 10) -> float:
    """Return the CPU that a host spends on one observation: agent, its programs, systemd, login; less what it idles."""
    usage = Path(open_lab(root).machine(name).record.cgroup) / "cpu.stat"

    def spent(act: Callable[[], object]) -> tuple[float, float]:
        before, began = used_ms(usage), time.perf_counter()
        act()
        return used_ms(usage) - before, time.perf_counter() - began

    busy, took_s = spent(lambda: [elapsed_ms(root, name) for _ in range(rounds)])
    idle, _ = spent(lambda: time.sleep(took_s))
    return (busy - idle) / rounds


def used_ms(stat: Path) -> float:
    """Return the CPU that a control group has used."""
    fields = dict(row.split() for row in stat.read_text(encoding="ascii").splitlines())
    return int(fields["usage_usec"]) / 1000


def switch_share(root: Path) -> None:
    """Switch one host five times and print recon's own share of each switch."""
    host = root / "desired" / "hosts" / "lab-1.yaml"
    shares = []
    for coven in ("vision", "reasoning", "vision", "reasoning", "vision"):
        text = "".join(
            f"coven: {coven}\n" if row.startswith("coven:") else row
            for row in host.read_text().splitlines(keepends=True)
        )
        host.write_text(text)
        timed([*RECON, "-C", str(root), "apply", "--yes", "--host", "lab-1"])
        done = subprocess.run(
            [*RECON, "-C", str(root), "status", "-o", "json", "--host", "lab-1"], check=True, capture_output=True
        )
        last = json.loads(done.stdout)["hosts"]["lab-1"]["executor"]["last"]["value"]
        waits = sum(last["steps_s"].get(step, 0.0) for step in ("drain", "stop", "verify_memory", "warm"))
        shares.append(last["elapsed_s"] - waits)
    line(
        "recon's own share of a switch (all but drain, stop, memory, load)",
        f"median {statistics.median(shares):.2f} s, max {max(shares):.2f} s",
        "<= 1 s",
    )


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10, help="lab hosts")
    parser.add_argument("--offline-hosts", type=int, default=10_000)
    parser.add_argument("--only", choices=["commands", "offline", "lab"])
    chosen = parser.parse_args()
    if chosen.only in {None, "commands"}:
        bench_commands()
    if chosen.only in {None, "offline"}:
        bench_offline(chosen.offline_hosts)
    if chosen.only in {None, "lab"}:
        bench_lab(chosen.hosts)


if __name__ == "__main__":
    main()

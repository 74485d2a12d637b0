"""The same probe without recon's SSH: one OpenSSH client per host, all at once, the same bytes on stdin."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from reconciler.hosts import loader
from reconciler.hosts.bundle import agent_bundle
from reconciler.hosts.connect import target_of
from reconciler.hosts.observe import observe_request
from reconciler.hosts.wire import request_frame
from reconciler.model.desired import Fleet, Host


def raw_exec_of(host: Host, root: Path, known_hosts: Path) -> tuple[list[str], bytes]:
    """Return the OpenSSH command for a host and what goes on its stdin; the host must be enrolled."""
    target = target_of(host, root)
    place = target.place
    words = ["ssh", "-T", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known_hosts}", "-p", str(place.port)]
    words += ["-i", str(target.key), "-o", "IdentitiesOnly=yes"] if target.key else []
    words += [f"{place.user}@{place.address}", loader.command(sudo=place.user != "root")]
    request = request_frame("observe", observe_request(host), agent_bundle().digest)
    return words, loader.program() + request


def raw_probe(fleet: Fleet, root: Path) -> Callable[[], float]:
    """Return a measurement of the probe on all hosts at once, host keys checked as recon does."""
    known_hosts = root / ".recon" / "bench_known_hosts"
    lines = [f"{host.address} {host.host_key}\n" for host in fleet.hosts.values() if host.host_key]
    known_hosts.write_text("".join(lines), encoding="utf-8")
    jobs = [raw_exec_of(host, root, known_hosts) for host in fleet.hosts.values()]

    def once() -> float:
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(_run, jobs))
        return time.perf_counter() - began

    return once


def _run(job: tuple[list[str], bytes]) -> None:
    done = subprocess.run(job[0], input=job[1], capture_output=True, check=False)
    if done.returncode or b"RECON1-NEED" in done.stdout or b'"ok":true' not in done.stdout:
        sys.exit(f"{' '.join(job[0][:-1])} ended with {done.returncode}: {done.stderr.decode()}{done.stdout[:200]!r}")

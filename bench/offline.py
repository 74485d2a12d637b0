"""Ten thousand hosts, offline: load, validate, render, diff and plan from recorded observations, in one process.

Run as a program it prints one JSON object with seconds per stage and the peak of its own memory.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import sys
import time
from pathlib import Path

from reconciler.load.fleet import collection_paused
from reconciler.model.observed import HostState
from reconciler.planner import assemble
from reconciler.workflow.planning import plan_one, render_hosts
from reconciler.workflow.repository import open_repository, select_hosts

OWNER = "studio/spark-1"
"""Whose units the recorded observation shows; each host gets its own name there."""

ONE_IN = 10
"""Every tenth host has a changed line: it is to switch. The others run what is declared, as most do on most days."""


def make_fleet(root: Path, example: Path, hosts: int) -> None:
    """Write a state repository of many hosts like spark-1 of the example, with the example's covens."""
    shutil.copytree(example / "desired", root / "desired")
    like = (root / "desired" / "hosts" / "spark-1.yaml").read_text(encoding="utf-8")
    shutil.rmtree(root / "desired" / "hosts")
    (root / "desired" / "hosts").mkdir()
    fleet = root / "desired" / "fleet.yaml"
    fleet.write_text(fleet.read_text(encoding="utf-8").replace("name: studio", "name: big"), encoding="utf-8")
    for number in range(hosts):
        text = re.sub(r"(?m)^address: .*$", f"address: h-{number}.example.net", like)
        if number % ONE_IN == 0:
            text = text.replace("coven: reasoning", "coven: vision")
        (root / "desired" / "hosts" / f"h-{number:05}.yaml").write_text(text, encoding="utf-8")


def main(root: Path, recorded: Path) -> dict[str, float]:
    """Plan every host of a repository against one recorded observation each; return the figures."""
    cpu_began = time.process_time()
    marks = [("start", time.perf_counter())]
    repository = open_repository(root)
    marks.append(("load_s", time.perf_counter()))
    hosts = select_hosts(repository.fleet, ())
    rendered = render_hosts(repository, hosts)
    marks.append(("render_s", time.perf_counter()))
    line = recorded.read_text(encoding="utf-8")
    # Parsed and checked anew for each host: that is what ten thousand recorded answers cost.
    with collection_paused():
        plans = [
            plan_one(
                rendered[host.name],
                host,
                HostState.model_validate_json(line.replace(OWNER, f"big/{host.name}")),
                fleet="big",
            )
            for host in hosts
        ]
        marks.append(("diff_and_plan_s", time.perf_counter()))
        bodies = {file.body_sha256: file.body for files in rendered.values() for file in files.files}
        plan = assemble(repository.fleet, plans, bodies, source=repository.source, now=0.0)
    # After the block: what the collector catches up with when it goes on is part of the cost.
    marks.append(("assemble_s", time.perf_counter()))
    cpu_s = time.process_time() - cpu_began
    figures = {name: round(at - before, 3) for (name, at), (_, before) in zip(marks[1:], marks[:-1], strict=True)}
    figures["total_s"] = round(marks[-1][1] - marks[0][1], 3)
    # What it costs on a core of its own; the seconds above also hold what others on this computer took.
    figures["cpu_s"] = round(cpu_s, 3)
    figures["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    figures["hosts"] = len(plan.hosts)
    figures["switches"] = plan.summary.switch
    return figures


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))) + "\n")

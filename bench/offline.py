"""Ten thousand hosts, offline: load, validate, render, diff and plan from recorded observations, in one process.

Run as a program it prints one JSON object with seconds per stage and the peak of its own memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from reconciler.model.observed import HostState
from reconciler.planner import assemble
from reconciler.workflow import open_repository, plan_one, render_hosts, select_hosts

OWNER = "studio/spark-1"
"""Whose units the recorded observation shows; each host gets its own name there."""

HOST_FILE = """\
address: 198.51.{high}.{low}
reserve: 14GiB
memory: {{kind: unified, capacity: 119GiB}}
coven: {coven}
may_run: [reasoning, vision, embeddings]
shared:
  - {{unit: qdrant.service, memory: 4GiB}}
"""


def make_fleet(root: Path, example: Path, hosts: int) -> None:
    """Write a state repository of many hosts that share the example's covens."""
    (root / "desired" / "hosts").mkdir(parents=True)
    (root / "desired" / "covens").mkdir()
    for name in ("reasoning", "vision", "embeddings"):
        text = (example / "desired" / "covens" / f"{name}.yaml").read_text(encoding="utf-8")
        (root / "desired" / "covens" / f"{name}.yaml").write_text(text, encoding="utf-8")
    (root / "desired" / "fleet.yaml").write_text("version: 1\nname: big\n", encoding="utf-8")
    for number in range(hosts):
        coven = ("reasoning", "vision", "embeddings")[number % 3]
        text = HOST_FILE.format(high=number // 250 % 250, low=number % 250 + 1, coven=coven)
        (root / "desired" / "hosts" / f"h-{number:05}.yaml").write_text(text, encoding="utf-8")


def main(root: Path, recorded: Path) -> dict[str, float]:
    """Plan every host of a repository against one recorded observation each; return the figures."""
    marks = [("start", time.perf_counter())]
    repository = open_repository(root)
    marks.append(("load_s", time.perf_counter()))
    hosts = select_hosts(repository.fleet, ())
    rendered = render_hosts(repository, hosts)
    marks.append(("render_s", time.perf_counter()))
    line = recorded.read_text(encoding="utf-8")
    # Parsed and checked anew for each host: that is what ten thousand recorded answers cost.
    plans = [
        plan_one(rendered[host.name], host, HostState.model_validate_json(line.replace(OWNER, f"big/{host.name}")))
        for host in hosts
    ]
    marks.append(("diff_and_plan_s", time.perf_counter()))
    bodies = {file.body_sha256: file.body for files in rendered.values() for file in files.files}
    plan = assemble(repository.fleet, plans, bodies, source=repository.source, now=0.0)
    marks.append(("assemble_s", time.perf_counter()))
    figures = {name: round(at - before, 3) for (name, at), (_, before) in zip(marks[1:], marks[:-1], strict=True)}
    figures["total_s"] = round(marks[-1][1] - marks[0][1], 3)
    figures["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    figures["hosts"] = len(plan.hosts)
    figures["switches"] = plan.summary.switch
    return figures


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))) + "\n")

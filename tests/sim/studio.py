"""The whole of recon in one process on one simulated machine: load, render, observe, plan, hand over, execute."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, Literal

from reconciler.agent import dispatch
from reconciler.apply.intents import build_intent
from reconciler.diff import diff_host, ignored_facts
from reconciler.load.fleet import load_fleet
from reconciler.model.desired import Fleet, Host, Source
from reconciler.model.observed import HostState
from reconciler.model.plan import Plan
from reconciler.model.subject import look_at
from reconciler.planner import assemble, plan_host
from reconciler.render import Memo
from reconciler.sim.fleet import provide, run_launched
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Kind

HOST = "gpu-1"
CONTEXT = {"digest": "simulated", "mode": "simulated", "bundle": None}
CovenName = Literal["reasoning", "vision"]

_FLEET = "version: 1\nname: sim\ntransport: sim\ndefaults:\n  drain: {timeout: 30s, on_timeout: abort}\n"
_HOST = "address: 192.0.2.1\ncoven: reasoning\nmay_run: [reasoning, vision]\n"
_COVENS = {
    "reasoning": """services:
  vllm:
    runtime: vllm
    image: docker.io/vllm/vllm-openai@sha256:{digit}
    model: {{path: /srv/models/reasoning}}
    port: 8001
    memory: 80GiB
    warm: {{timeout: 90s}}
    stop: {{timeout: 10s}}
  reranker:
    runtime: llamacpp
    image: ghcr.io/ggml-org/llama.cpp@sha256:{digit}
    model: {{path: /srv/models/reranker}}
    port: 8003
    memory: 4GiB
    warm: {{timeout: 90s}}
    stop: {{timeout: 10s}}
""",
    "vision": """services:
  llama:
    runtime: llamacpp
    image: ghcr.io/ggml-org/llama.cpp@sha256:{digit}
    model: {{path: /srv/models/vision}}
    port: 8002
    memory: 70GiB
    warm: {{timeout: 90s}}
    stop: {{timeout: 10s}}
""",
}


@functools.cache
def fleet() -> Fleet:
    """Load the two covens once."""
    with tempfile.TemporaryDirectory() as directory:
        desired = Path(directory) / "desired"
        for folder in ("hosts", "covens"):
            (desired / folder).mkdir(parents=True)
        (desired / "fleet.yaml").write_text(_FLEET, encoding="utf-8")
        (desired / "hosts" / f"{HOST}.yaml").write_text(_HOST, encoding="utf-8")
        for name, text in _COVENS.items():
            (desired / "covens" / f"{name}.yaml").write_text(text.format(digit="a" * 64), encoding="utf-8")
        return load_fleet(Path(directory))


class Studio:
    """One host of that fleet and the deeds of its operator. `wants` is the line in git."""

    def __init__(self, kind: Kind = "h200", machine: SimMachine | None = None) -> None:
        self.machine = machine or SimMachine.new(HOST, kind)
        self.wants: CovenName | None = "reasoning"
        self.count = 0

    @property
    def host(self) -> Host:
        host = fleet().hosts[HOST]
        return host.model_copy(update={"slots": (host.slots[0].model_copy(update={"coven": self.wants}),)})

    def ask(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        provide(self.machine, args)
        return dispatch.handle(self.machine, verb, args, CONTEXT)

    def observe(self) -> HostState:
        rendered = Memo(fleet(), {}).host(self.host)
        images = sorted({member.image for group in rendered.groups.values() for member in group.members})
        args = {"shared": [], "memory": "auto", "images": images, "deadline_s": 20}
        return HostState.model_validate(self.ask("observe", args))

    def plan(self) -> Plan:
        rendered, state = Memo(fleet(), {}).host(self.host), self.observe()
        subject = look_at(rendered, self.host, state)
        made = plan_host(subject, diff_host(subject), fleet=fleet().name, ignored=ignored_facts(state))
        bodies = {file.body_sha256: file.body for file in rendered.files}
        return assemble(fleet(), [made], bodies, source=Source(commit=None, dirty=False), now=0.0)

    def launch(self) -> str:
        """Hand the host its order and return the transaction; nothing of it has run yet."""
        plan = self.plan()
        assert plan.hosts[0].order is not None, plan.hosts[0]
        self.count += 1
        txid = f"t{self.count:04}"
        intent = build_intent(plan, plan.hosts[0], txid=txid, owner="tests@example.net")
        reply = self.ask("apply", {"intent": intent.model_dump(mode="json")})
        assert reply == {"launched": True, "txid": txid}
        return txid

    def apply(self) -> dict[str, Any]:
        """Plan, hand over, let it run and return the outcome."""
        txid = self.launch()
        run_launched(self.machine)
        return self.outcome(txid)

    def outcome(self, txid: str) -> dict[str, Any]:
        reply = self.ask("follow", {"txid": txid, "after_seq": 0, "wait_s": 0})
        assert reply["outcome"] is not None
        outcome: dict[str, Any] = reply["outcome"]
        return outcome

    def running(self) -> list[str]:
        """Return the names of the containers that run, without the coven's first word."""
        return sorted(container.name for container in self.machine.state.containers.values())

    def has_changes(self) -> bool:
        return self.plan().has_changes


MEMBERS: dict[CovenName, list[str]] = {
    "reasoning": ["recon-reasoning-reranker", "recon-reasoning-vllm"],
    "vision": ["recon-vision-llama"],
}

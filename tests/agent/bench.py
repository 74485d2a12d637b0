"""A simulated host with a small fleet on it: from a coven's name to the intent a controller would hand over.

The intent comes out of the production stages, so what is proven here is what hosts are told.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from reconciler.agent import executor, observe, places
from reconciler.agent.journal import read_events
from reconciler.agent.record import write_record
from reconciler.diff import diff_host, ignored_facts
from reconciler.model.desired import (
    ALL_GPUS,
    Coven,
    Drain,
    Fleet,
    Hooks,
    Host,
    MemorySpec,
    Platform,
    Policy,
    Service,
    Shared,
    Slot,
    Spiral,
    Ssh,
    Watchdog,
)
from reconciler.model.events import Events
from reconciler.model.intent import Intent, IntentFile
from reconciler.model.observed import HostState
from reconciler.model.outcome import JournalEvent, Outcome
from reconciler.model.rendered import RenderedHost
from reconciler.model.subject import look_at
from reconciler.model.window import Window
from reconciler.planner import plan_host
from reconciler.render.headers import with_header
from reconciler.render.host import render_host
from reconciler.sim.machine import Hook, KilledError, SimMachine, StoppedError
from reconciler.sim.services import add_requests
from reconciler.sim.state import Kind, Node, ServiceFacts, SimState
from reconciler.sim.weights import provide_model

CONTEXT = {"digest": "simulated", "mode": "simulated", "bundle": None}
DIGEST = "sha256:" + "a" * 64
IMAGES = {
    "vllm": f"docker.io/vllm/vllm-openai@{DIGEST}",
    "llamacpp": f"ghcr.io/ggml-org/llama.cpp@{DIGEST}",
    "none": f"registry.example.net/parser@{DIGEST}",
    "bot": f"registry.example.net/bot@{DIGEST}",
}
OWNER = "studio/h-1"
MINE = ("/var/lib/recon/", "/run/recon/")


def a_service(runtime: str, port: int | None, **over: Any) -> Service:
    values: dict[str, Any] = {
        "runtime": runtime,
        "image": IMAGES[runtime],
        "port": port,
        "memory": "40GiB",
        "warm": {"timeout": "120s"},
        "stop": {"timeout": "10s"},
        "drain": {"timeout": "30s", "on_timeout": "abort"},
    }
    if port is not None and runtime != "generic":
        values["model"] = {"path": f"/srv/models/{port}"}
    return Service.model_validate(values | over)


def a_coven(name: str, *, hooks: Hooks | None = None, **services: Service) -> Coven:
    return Coven(name=name, description=None, services=services, drain=Drain(), hooks=hooks or Hooks())


REASONING = a_coven(
    "reasoning",
    vllm=a_service("vllm", 8001, memory="80GiB", env={"VLLM_SERVER_DEV_MODE": "1"}),
    rerank=a_service("llamacpp", 8002, memory="8GiB"),
)
VISION = a_coven("vision", llama=a_service("llamacpp", 8003, memory="100GiB"))
PARSER = a_service("none", None, memory="0B", gpu=False)


def ending_before(what: str, how: type[StoppedError] = KilledError) -> Hook:
    """Return a hook that ends the executor right before its first change that begins with these words."""

    def hook(when: Literal["before", "after"], change: str) -> None:
        if when == "before" and change.startswith(what):
            raise how

    return hook


def ending_at(number: int, how: Callable[[], BaseException], seen: list[str]) -> Hook:
    """Return a hook that ends the executor right before its n-th change, from 0, and notes all up to that one."""

    def hook(when: Literal["before", "after"], change: str) -> None:
        if when == "before":
            seen.append(change)
            if len(seen) - 1 == number:
                raise how()

    return hook


class Bench:
    """One simulated host, the covens it may run, and what its slot should run."""

    def __init__(
        self,
        *covens: Coven,
        residents: dict[str, Service] | None = None,
        slots: dict[str, tuple[str, ...] | Literal["all"]] | None = None,
        kind: Kind = "h200",
        memory: MemorySpec | None = None,
    ) -> None:
        self.memory = memory or MemorySpec()
        self.slots = slots or {ALL_GPUS: "all"}
        self.machine = SimMachine.new("h-1", kind, gpus=len(self.slots))
        self.covens = {coven.name: coven for coven in covens or (REASONING, VISION)}
        self.residents = residents or {}
        self.shared: tuple[str, ...] = ()
        self.watchdog: Watchdog | None = None
        self.schedule: tuple[Window, ...] = ()
        self.reserve: int | None = None
        self.webhooks: Events | None = None
        self.count = 0

    def copy(self) -> Bench:
        """Return a second host that is the same in everything."""
        other = copy.copy(self)
        other.machine = SimMachine(SimState.model_validate_json(self.machine.state.model_dump_json()))
        return other

    def rendered(self, *live: str | None) -> tuple[RenderedHost, Host]:
        host = Host(
            name="h-1",
            address="192.0.2.11",
            host_key=None,
            ssh=Ssh(),
            reserve=self.reserve,
            memory=self.memory,
            platform=Platform(),
            slots=tuple(
                Slot(name=name, gpus=gpus, coven=coven)
                for (name, gpus), coven in zip(self.slots.items(), live, strict=True)
            ),
            may_run=tuple(self.covens),
            shared=tuple(Shared.model_validate({"unit": unit, "memory": "1GiB"}) for unit in self.shared),
            residents=self.residents,
            spiral=Spiral(),
            schedule=self.schedule,
            watchdog=self.watchdog,
            events=self.webhooks,
        )
        fleet = Fleet(name="studio", transport="ssh", policy=Policy(), covens=self.covens, hosts={"h-1": host})
        return render_host(fleet, host, {}), host

    def intent(self, *live: str | None) -> dict[str, Any]:
        """Return the intent that brings the host to run these covens, one for each slot."""
        rendered, host = self.rendered(*live)
        state = HostState.model_validate(observe.observe(self.machine, self.question(), CONTEXT))
        subject = look_at(rendered, host, state)
        order = plan_host(subject, diff_host(subject), fleet="studio", ignored=ignored_facts(state)).order
        assert order is not None, "there is nothing to do, or a guard refuses it"
        files = {file.name: file for file in rendered.files}
        self.count += 1
        fields = order.model_dump()
        for tier in ("quadlets", "natives"):
            fields[tier] = [
                IntentFile(
                    name=ref["name"],
                    content=with_header(files[ref["name"]], OWNER, "c0ffee"),
                    body_sha256=ref["body_sha256"],
                    config_hash=ref["config_hash"],
                )
                for ref in fields[tier]
            ]
        fields["manifest_live"] = fields.pop("live")
        fields.setdefault("memory", "auto")
        intent = Intent(
            protocol=1,
            txid=f"2026-{self.count:04}",
            fleet="studio",
            host="h-1",
            owner="ci@example.net",
            source_commit="c0ffee",
            plan_digest="sha256:" + "0" * 64,
            fingerprint=state.fingerprint,
            **fields,
        )
        document = intent.model_dump(mode="json")
        self.provide(document)
        return document

    def intent_anyway(self, *live: str | None) -> dict[str, Any]:
        """Return an intent as if nobody held the host; what holds it stays where it is."""
        files = self.machine.state.files
        kept = {path: files.pop(path) for path in (places.LEASE, places.HOLD, places.LOCKS) if path in files}
        try:
            intent = self.intent(*live)
        finally:
            files.update(kept)
        return self.looked_at(intent)

    def question(self) -> dict[str, Any]:
        """Return what a plan asks the host."""
        services = [service for coven in self.covens.values() for service in coven.services.values()]
        adopts = sorted({name for service in services for name in service.adopts})
        names = sorted({service.container_name for service in services if service.container_name})
        asked = {"memory": "auto", "shared": [{"unit": unit, "health": None} for unit in self.shared]}
        return {**asked, **({"adopts": adopts} if adopts else {}), **({"containers": names} if names else {})}

    def looked_at(self, intent: dict[str, Any]) -> dict[str, Any]:
        """Return an intent as if the host had been as it is now when it was planned."""
        return {**intent, "fingerprint": observe.observe(self.machine, self.question(), CONTEXT)["fingerprint"]}

    def provide(self, intent: dict[str, Any]) -> None:
        """Let the host have what its members need: the image, the model files, and how busy they say they are."""
        state = self.machine.state
        state.images = sorted({*state.images, *IMAGES.values()} - set(state.images_missing))
        members = [member for group in intent["groups"] for member in group["members"]]
        for member in [*members, *intent["residents"]]:
            state.facts[member["unit"]] = ServiceFacts(
                memory=member["memory"], port=member["port"], health=member["health"]
            )
            if member.get("model"):
                provide_model(self.machine, member["model"])
            for path in member["mounts"]:
                if self.machine.files.stat(path) is None:
                    self.machine.files.make_dirs(path)

    def program(self, path: str, text: str) -> None:
        """Put a hook's program on the host."""
        self.machine.files.make_dirs(path.rpartition("/")[0])
        self.machine.files.put(path, Node.of(f"#!/bin/sh\n{text}\n".encode(), 0o755))

    def submit(self, intent: dict[str, Any]) -> str:
        """Write an intent as `apply` does and return its transaction."""
        txid: str = intent["txid"]
        self.machine.mkdir(places.transaction(txid))
        write_record(self.machine, places.transaction(txid) + "/intent.json", intent)
        return txid

    def execute(self, intent: dict[str, Any]) -> Outcome:
        """Carry an intent out."""
        return Outcome.model_validate(executor.execute(self.machine, self.submit(intent)))

    def run(self, *live: str | None) -> Outcome:
        """Bring the host to run these covens, all the way."""
        return self.execute(self.intent(*live))

    def strike(self, txid: str, hook: Hook) -> None:
        """Carry a transaction out until a hook ends its executor; after a kill the host goes on without it."""
        self.machine.hook = hook
        with pytest.raises(StoppedError) as caught:
            executor.execute(self.machine, txid)
        self.machine.hook = None
        if caught.type is KilledError:
            self.machine.revive()

    def steps(self, txid: str) -> list[str]:
        """Return the words of the steps that began, in order."""
        return [event.step for event in self.events(txid) if event.status == "begin"]

    def events(self, txid: str) -> list[JournalEvent]:
        path = places.transaction(txid) + "/journal.jsonl"
        return [JournalEvent.model_validate(event) for event in read_events(self.machine, path, 0)]

    def active(self, unit: str) -> str:
        return self.machine.manager.run_of(unit).active

    def pid(self, unit: str) -> int:
        return self.machine.manager.run_of(unit).main_pid

    def serving(self) -> list[str]:
        """Return the containers that run."""
        return sorted(each.name for each in self.machine.state.containers.values() if each.status == "running")

    def busy(self, port: int, seconds: float) -> None:
        """Put a request on a server."""
        for server in self.machine.podman.servers.matching(f":{port}"):
            add_requests(server, self.machine.clock.now, seconds, 1, 0.0)

    def disk(self) -> dict[str, Node]:
        """Return everything on the disk but the executor's own book-keeping and what tests make of models."""
        return {
            path: replace(node, mtime=0)
            for path, node in self.machine.state.files.items()
            if not (path + "/").startswith((*MINE, "/srv/models/")) and node.kind != "dir"
        }

    def doing(self, deed: Callable[[], Any]) -> list[str]:
        """Do something and return every call that changed the machine meanwhile, book-keeping left out."""
        seen: list[str] = []

        def hook(when: Literal["before", "after"], what: str) -> None:
            if when == "before" and not what.split(" ", 1)[1].startswith(MINE):
                seen.append(what)

        self.machine.hook = hook
        try:
            deed()
        finally:
            self.machine.hook = None
        return seen

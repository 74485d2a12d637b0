"""Services on real hosts: bots, residents, what others rely on, restarts by hand, and models that are not there."""

from __future__ import annotations

import json
from typing import Any

from reconciler.errors import ExitCode
from reconciler.lab.machines import Machine
from tests.lab.test_scenarios import world
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import detailed, explain, routes, settle

__all__ = ["world"]

VLLM = "recon-reasoning-vllm.service"
BOT = "recon-reasoning-herald.service"
RESIDENT = "recon-resident-herald.service"
SHARED = "others.service"
_BOT = """\
{name}:
  runtime: bot
  image: {image}
  memory: 0B
  gpu: false
  command: [--runtime, generic, --port, "{port}"]
  env: {{LAB_GPU_BYTES: "0", LAB_LOAD_S: "0"}}
  warm: {{timeout: 30s}}
  stop: {{timeout: 10s}}
"""
_SHARED = "[Service]\nExecStart=/bin/busybox httpd -f -p 127.0.0.1:6333 -h /etc\nRestart=no\n"


def bot(world: LabWorld, name: str, port: int, indent: int) -> str:
    """Return a bot as YAML: the lab's own server, which nobody asks anything."""
    text = _BOT.format(name=name, image=world.lab.base.image, port=port)
    return "".join(f"{' ' * indent}{line}\n" for line in text.splitlines())


def with_resident_and_shared(world: LabWorld) -> Machine:
    """Give the first host a resident bot and a service of somebody else; return its machine."""
    host = world.hosts[0]
    machine = world.lab.machine(host)
    machine.run(["install", "-m", "0644", "/dev/stdin", f"/etc/systemd/system/{SHARED}"], stdin=_SHARED.encode())
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "start", SHARED])
    shared = f'shared:\n  - {{unit: {SHARED}, memory: 0B, health: "http://127.0.0.1:6333/hostname"}}\n'
    path = world.host_file(host)
    path.write_text(path.read_text() + shared + "residents:\n" + bot(world, "herald", 9101, 2), encoding="utf-8")
    return machine


def life(machine: Machine, unit: str) -> dict[str, str]:
    """Return which run of a unit this is."""
    names = "MainPID,InvocationID,NRestarts,ActiveState,ActiveEnterTimestampMonotonic,StateChangeTimestampMonotonic"
    shown = machine.run(["systemctl", "show", f"--property={names}", unit]).stdout.decode()
    return dict(line.split("=", 1) for line in shown.splitlines())


def spy(machine: Machine) -> None:
    """Note the words of every systemctl and podman on a host from now on."""
    for name in ("systemctl", "podman"):
        text = f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >> /run/words\nexec /usr/bin/{name} "$@"\n'
        machine.run(["install", "-D", "-m", "0755", "/dev/stdin", f"/usr/local/sbin/{name}"], stdin=text.encode())


def unspy(machine: Machine) -> list[str]:
    machine.run(["rm", "-f", "/usr/local/sbin/systemctl", "/usr/local/sbin/podman"])
    found = machine.path("/run/words")
    return found.read_text().splitlines() if found.exists() else []


def forget(machine: Machine) -> None:
    machine.run(["systemctl", "stop", SHARED], check=False)
    machine.run(["rm", "-f", f"/etc/systemd/system/{SHARED}", "/run/words"])
    machine.run(["systemctl", "daemon-reload"])


def planned(world: LabWorld, host: str) -> Any:
    return next(plan for plan in world.plan(host)["hosts"] if plan["host"] == host)


def test_residents_and_what_others_rely_on_survive_every_switch_and_rollback_untouched(world: LabWorld) -> None:
    host = world.hosts[0]
    machine = with_resident_and_shared(world)
    try:
        settle(world)
        spy(machine)
        resident, shared = life(machine, RESIDENT), life(machine, SHARED)
        assert (resident["ActiveState"], shared["ActiveState"]) == ("active", "active")

        for coven in ("vision", "embeddings", "reasoning"):
            world.set_coven(host, coven)
            settle(world)
        world.set_coven(host, "vision")
        machine.fault(8002, {"crash-at-start": True})
        failed = world.recon("apply", "--yes", "--host", host)
        machine.fault(8002, {})
        assert failed.code == ExitCode.ROLLED_BACK, explain(failed)
        back = world.recon("rollback", host, "--yes")
        assert back.code == ExitCode.OK, explain(back)

        assert life(machine, RESIDENT) == resident
        assert life(machine, SHARED) == shared
        seen = world.status(host)
        assert seen["shared"] == [
            {"unit": SHARED, "load": "loaded", "active": "active", "health": {"value": seen_well()}}
        ]
        assert seen["health"][RESIDENT] == {"value": {"ok": True, "status": 0, "detail": ""}}
    finally:
        words = unspy(machine)
        forget(machine)
    naming = [line for line in words if SHARED in line]
    assert [line for line in words if line.startswith("systemctl ")] != []
    assert {line.split(" ")[1] for line in naming} <= {"show"}, naming


def seen_well() -> dict[str, Any]:
    return {"ok": True, "status": 200, "detail": ""}


def test_a_bot_comes_and_goes_with_its_coven_and_one_that_dies_keeps_it_from_coming_up(world: LabWorld) -> None:
    host = world.hosts[0]
    machine = world.lab.machine(host)
    path = world.coven_file("reasoning")
    # Faults reach a container together with the GPU.
    text = bot(world, "herald", 9101, 2).replace("gpu: false", "gpu: true")
    path.write_text(path.read_text() + text, encoding="utf-8")
    settle(world)
    assert life(machine, BOT)["ActiveState"] == "active"
    assert world.status(host)["health"][BOT] == {"value": {"ok": True, "status": 0, "detail": ""}}
    assert detailed(world) == 0

    world.set_coven(host, "vision")
    settle(world)
    assert life(machine, BOT)["ActiveState"] == "inactive"
    world.set_coven(host, "reasoning")
    machine.fault(9101, {"crash-at-start": True})
    ran = world.recon("apply", "--yes", "--host", host)
    machine.fault(9101, {})

    assert ran.code == ExitCode.ROLLED_BACK, explain(ran)
    assert "herald: crash loop" in ran.out + ran.err
    assert world.serves(host, "vision")


def test_a_restart_by_hand_waits_for_the_request_in_flight_and_touches_nothing_else(world: LabWorld) -> None:
    host = world.hosts[0]
    machine = with_resident_and_shared(world)
    try:
        path = world.coven_file("reasoning")
        path.write_text(path.read_text() + bot(world, "herald", 9102, 2), encoding="utf-8")
        settle(world)
        before = {unit: life(machine, unit) for unit in (VLLM, BOT, RESIDENT, SHARED)}
        request = world.request(host, "reasoning", 6.0)

        ran = world.recon("restart", host, "vllm", "--yes")

        assert ran.code == ExitCode.OK, explain(ran)
        assert request.answer_is_whole()
        after = {unit: life(machine, unit) for unit in before}
        assert [unit for unit in before if before[unit] != after[unit]] == [VLLM]
        assert world.serves(host, "reasoning")
        assert detailed(world) == 0
        refused = world.recon("restart", host, SHARED, "--yes")
        assert refused.code == ExitCode.REFUSED
        assert "REC7400" in refused.err
        assert life(machine, SHARED) == before[SHARED]
    finally:
        forget(machine)


def test_a_model_that_is_lost_between_the_plan_and_the_stage_is_refused_with_nothing_changed(world: LabWorld) -> None:
    """The plan tells first; a plan that was made before cannot, and the host looks again."""
    host = world.hosts[0]
    machine = world.lab.machine(host)
    settle(world)
    before, generation = life(machine, VLLM), world.committed(host)
    world.set_coven(host, "vision")
    machine.run(["mv", "/srv/models/vision", "/srv/models/vision.away"])
    try:
        refusal = planned(world, host)["refusals"]
        assert [(each["code"], each["detail"]) for each in refusal] == [
            ("REC7122", "not on the host: /srv/models/vision")
        ]
        machine.run(["mkdir", "/srv/models/vision"])
        refusal = planned(world, host)["refusals"]
        assert [(each["code"], each["detail"]) for each in refusal] == [("REC7406", "/srv/models/vision is empty")]
        assert world.recon("apply", "--yes", "--host", host).code == ExitCode.REFUSED
        machine.run(["rmdir", "/srv/models/vision"])
        # A drain of some seconds would hide it; the order is handed over by a plan that still saw the files.
        staged = staged_without(world, host, machine)
        assert staged == ("refused", "REC7122")
        assert (life(machine, VLLM), world.committed(host)) == (before, generation)
    finally:
        machine.run(["rm", "-rf", "/srv/models/vision"])
        machine.run(["mv", "/srv/models/vision.away", "/srv/models/vision"], check=False)
    settle(world)
    assert world.serves(host, "vision")


def staged_without(world: LabWorld, host: str, machine: Machine) -> tuple[str, str]:
    """Hand over an order whose model is gone by the time the host stages it; return how that ended."""
    import time

    from reconciler.apply.run import apply_plan
    from reconciler.hosts.connect import connector
    from reconciler.workflow.planning import make_plan

    machine.run(["mv", "/srv/models/vision.away", "/srv/models/vision"])
    repository, plan = make_plan(world.root, [host], now=time.time())
    machine.run(["mv", "/srv/models/vision", "/srv/models/vision.away"])
    connect = connector(repository.fleet, repository.root)
    try:
        outcomes = apply_plan(plan, repository.fleet, connect, owner="tests@example.net", on_event=lambda _: None)
    finally:
        connect.close()
    return outcomes[0].state, str(outcomes[0].code)


def test_a_hub_model_is_refused_with_its_command_until_it_is_in_the_cache(world: LabWorld) -> None:
    host = world.hosts[0]
    machine = world.lab.machine(host)
    settle(world)
    before = life(machine, VLLM)
    world.set_coven(host, "vision")
    path = world.coven_file("vision")
    text = path.read_text().replace("{path: /srv/models/vision}", "{hub: org/name}").replace("llamacpp", "vllm")
    path.write_text(text.replace("args: [--runtime, vllm, --metrics]", "args: [--runtime, vllm]"), encoding="utf-8")
    fetch = "hf download org/name --cache-dir /srv/huggingface/hub"

    ran = world.recon("apply", "--yes", "--host", host)

    assert ran.code == ExitCode.REFUSED, explain(ran)
    assert [(each["code"], each["fix"]) for each in planned(world, host)["refusals"]] == [("REC7410", fetch)]
    assert life(machine, VLLM) == before
    home = "/srv/huggingface/hub/models--org--name"
    script = (
        f"mkdir -p {home}/refs {home}/blobs {home}/snapshots/abc && printf abc > {home}/refs/main"
        f" && echo weights > {home}/blobs/1 && ln -s ../../blobs/1 {home}/snapshots/abc/model.safetensors"
    )
    machine.run(["sh", "-c", script])
    try:
        settle(world)

        assert routes(world, host) == []
        assert world.serves(host, "vision")
        member = "recon-vision-llama"
        mounted = json.loads(machine.run(["podman", "inspect", "--format", "{{json .Mounts}}", member]).stdout)
        assert [(m["Source"], m["Destination"], m["RW"]) for m in mounted] == [
            ("/srv/huggingface/hub", "/srv/huggingface/hub", False)
        ]
        env = machine.run(["podman", "exec", member, "/usr/bin/env"], check=False).stdout.decode()
        assert "HF_HUB_OFFLINE=1" in env or env == ""
    finally:
        world.set_coven(host, "reasoning")
        settle(world)
        machine.run(["rm", "-rf", "/srv/huggingface"])

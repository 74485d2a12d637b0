"""A spiral on the bench: a small loop with two lanes, and a host on which every guardrail holds."""

from __future__ import annotations

from typing import Any

from reconciler.agent import observe
from reconciler.model.desired import Fleet, Host, Policy, Spiral
from reconciler.model.observed import HostState
from reconciler.model.rendered import RenderedHost
from reconciler.model.share import HostShare
from reconciler.model.spiral import SpiralFile
from reconciler.render.host import render_host
from reconciler.sim.state import Node
from tests.agent.bench import CONTEXT, IMAGES, Bench

ROOT = "/srv/spiral"
CONTROL = f"{ROOT}/control.json"
WORKER, SATURATOR = "recon-spiral-worker.service", "recon-spiral-saturator.service"
GEMMA, CONTROLLER = "recon-spiral-gemma.service", "recon-spiral-controller.service"
GPU_LANE = [GEMMA, SATURATOR, WORKER]
ALL = sorted([*GPU_LANE, CONTROLLER])
_LIMITS = {"memory": "2GiB", "tasks": 64}

LOOP: dict[str, Any] = {
    "root": ROOT,
    "units": {
        "worker": {
            "argv": ("/usr/bin/python3", "-m", "spiral.worker"),
            "lane": "gpu",
            "memory": "8GiB",
            "limits": _LIMITS,
        },
        "saturator": {"argv": (f"{ROOT}/saturate",), "lane": "gpu", "producer": True, "limits": _LIMITS},
        "gemma": {"image": IMAGES["none"], "lane": "gpu", "memory": "4GiB", "limits": _LIMITS},
        "controller": {"argv": (f"{ROOT}/control",), "lane": "cpu", "limits": _LIMITS},
    },
    "jobs": {"refill": {"argv": (f"{ROOT}/refill",), "limits": _LIMITS}},
    "control": {"file": CONTROL, "keys": {"jobs_per_hour": "limits.jobs_per_hour"}},
    "convergence": {"file": f"{ROOT}/state.json", "key": "converged"},
    "reaper": {"paths": (f"{ROOT}/renders",), "keep": {"bytes": "1GiB"}},
    "authorities": ("spiral-*",),
}
ENABLED = Spiral(enabled=True, rate_caps={"jobs_per_hour": 12})


class SpiralBench(Bench):
    """A bench whose host has a spiral; `loop`, `own` and `share` are what git says about it."""

    def __init__(self, **over: Any) -> None:
        super().__init__(**over)
        self.loop = LOOP
        self.own = ENABLED
        self.share: HostShare | None = None
        self.machine.files.make_dirs(f"{ROOT}/renders")
        self.machine.files.put(CONTROL, Node.of(b'{"prompt": "a river"}'))

    def rendered(self, *live: str | None) -> tuple[RenderedHost, Host]:
        _, host = super().rendered(*live)
        host = host.model_copy(update={"spiral": self.own, "share": self.share})
        fleet = Fleet(
            name="studio",
            transport="ssh",
            policy=Policy(),
            covens=self.covens,
            hosts={"h-1": host},
            spiral=SpiralFile.model_validate(self.loop),
        )
        return render_host(fleet, host, {}), host

    def question(self) -> dict[str, Any]:
        rendered, _ = self.rendered(*(None for _ in self.slots))
        asked = super().question()
        return {**asked, "spiral": rendered.spiral.model_dump(mode="json")} if rendered.spiral else asked

    def state(self) -> HostState:
        return HostState.model_validate(observe.observe(self.machine, self.question(), CONTEXT))

    def up(self) -> list[str]:
        """Return the loops that run."""
        return [unit for unit in ALL if self.active(unit) == "active"]

    def wait(self, seconds: float = 5.0) -> None:
        self.machine.clock.advance(seconds)

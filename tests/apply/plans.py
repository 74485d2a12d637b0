"""Small plans, and hosts that carry them out by script."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

from reconciler.errors import HostError, Problem, UnreachableError
from reconciler.model.desired import Fleet, Host, Policy, Source
from reconciler.model.digest import plan_digest
from reconciler.model.intent import SlotMove
from reconciler.model.plan import FileRef, HostPlan, Order, Plan, Summary
from tests.builders import a_group, a_host

BODY = "[Unit]\nDescription=a\n"
DIGEST = hashlib.sha256(BODY.encode()).hexdigest()
SUMMARY = Summary(hosts=1, switch=0, restart=0, start=0, stop=0, files=0, drift=0, refused=0, unreachable=0)


def a_move(new: str = "vision") -> SlotMove:
    return SlotMove.model_validate(
        {
            "slot": "all",
            "gpus": [],
            "kind": "switch",
            "old": None,
            "new": a_group(new).model_dump(),
            "restart": [],
            "need_bytes": 1,
            "need_bytes_per_gpu": 1,
            "reserve_bytes": 0,
            "memory_class": "discrete",
            "memory_timeout_s": 60.0,
        }
    )


def an_order(**over: Any) -> Order:
    values: dict[str, Any] = {
        "from_generation": 3,
        "quadlets": (FileRef(name="recon-a-s.container", body_sha256=DIGEST, config_hash="aaaa000000000001"),),
        "natives": (),
        "remove_natives": (),
        "memory": "auto",
        "boot": (),
        "groups": (),
        "live": {"all": "vision"},
        "moves": (a_move(),),
        "residents": (),
        "restart_residents": (),
        "stop_units": (),
        "shared": (),
    }
    return Order.model_validate(values | over)


def a_host_plan(host: str, **over: Any) -> HostPlan:
    values: dict[str, Any] = {
        "host": host,
        "status": "ok",
        "observed_fingerprint": "sha256:" + "f" * 64,
        "observed_at": 1.0,
        "from_generation": 3,
        "live": {"all": "reasoning"},
        "order": an_order(),
    }
    return HostPlan.model_validate(values | over)


def files_only(host: str) -> HostPlan:
    return a_host_plan(host, order=an_order(moves=()))


def a_plan(*hosts: HostPlan) -> Plan:
    plan = Plan(
        recon_version="0.1.0",
        fleet="studio",
        plan_digest="",
        created_at=1.0,
        source=Source(commit="c" * 40, dirty=False),
        complete=True,
        applyable=True,
        hosts=hosts,
        blobs={DIGEST: BODY},
        ignored_drift_count=0,
        summary=SUMMARY,
    )
    return sealed(plan)


def sealed(plan: Plan) -> Plan:
    return plan.model_copy(update={"plan_digest": plan_digest(plan)})


def a_fleet(*names: str, at_a_time: int = 1) -> Fleet:
    hosts = {name: a_host(name=name) for name in names}
    policy = Policy(concurrent_transitions=at_a_time)
    return Fleet(name="studio", transport="ssh", policy=policy, covens={}, hosts=hosts)


def an_outcome(host: str, *, state: str = "applied", txid: str = "t1", **over: Any) -> dict[str, Any]:
    return {
        "txid": txid,
        "host": host,
        "state": state,
        "reason": "",
        "code": None,
        "fix": None,
        "committed": 4,
        "live": {"all": "vision"},
        "owner": "ann@laptop",
        "source_commit": "c" * 40,
        "plan_digest": "sha256:x",
        "started_at": 100.0,
        "elapsed_s": 40.0,
        "steps_s": {"start": 30.0, "warm": 10.0},
    } | over


def an_event(seq: int, step: str = "start", status: str = "begin") -> dict[str, Any]:
    return {"seq": seq, "t": float(seq), "step": step, "slot": "all", "status": status, "text": f"{step} {seq}"}


def news(*events: dict[str, Any], outcome: dict[str, Any] | None = None, active: bool | None = None) -> dict[str, Any]:
    return {"events": list(events), "outcome": outcome, "active": outcome is None if active is None else active}


def lost(code: str = "REC6008") -> UnreachableError:
    return UnreachableError(Problem(code, "lost", "in the dark"))


def refusal(code: str = "REC5016") -> HostError:
    return HostError(Problem(code, "no", "because", "do this"))


Answer = dict[str, Any] | Exception | Callable[[], dict[str, Any]]


class ScriptedHost:
    """Answers one request after the other from a script; the last answer is repeated."""

    def __init__(self, *script: Answer) -> None:
        self._script = iter(script)
        self._last: Answer = refusal()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.connections = 0

    def ask(self, verb: str, args: dict[str, Any], *, deadline_s: float) -> dict[str, Any]:
        self.asked.append((verb, args))
        self._last = next(self._script, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return self._last if isinstance(self._last, dict) else self._last()

    def close(self) -> None:
        """The next request connects anew."""

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.asked]


class Hosts:
    """A `Connect` over scripted hosts."""

    def __init__(self, **hosts: ScriptedHost) -> None:
        self.by_name = {name.replace("_", "-"): host for name, host in hosts.items()}

    def __call__(self, host: Host) -> ScriptedHost:
        found = self.by_name[host.name]
        found.connections += 1
        return found


class FakePace:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return 1_700_000_000.0 + self._now

    def wait(self, seconds: float, wake: threading.Event) -> None:
        with self._lock:
            self.waits.append(seconds)
            self._now += seconds

    def passing(self, seconds: float, reply: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        """Return an answer that takes its time."""

        def answer() -> dict[str, Any]:
            self._now += seconds
            return reply

        return answer

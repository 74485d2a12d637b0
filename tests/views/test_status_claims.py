"""How a claim is shown: whose, how old, and whether its holder lately showed that it lives."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.observed import Damage, Executor, Health, Known, Lease, NotApplicable, Unknown
from reconciler.views.paint import Paint
from reconciler.views.status import status_lines
from tests.builders import a_group, a_host, a_member, a_rendered, a_state, a_state_running, a_unit

RUNNING = Executor(active=True, txid="t1", last=NotApplicable(na="-"))


def a_lease(**over: Any) -> Lease:
    state = a_state()
    values: dict[str, Any] = {
        "epoch": 7,
        "owner": "ada@laptop",
        "txid": "t1",
        "boot_id": state.identity.boot_id,
        "step": "drain",
        "since": state.identity.boottime_s - 90,
        "renewed": state.identity.boottime_s - 12,
        "ttl_s": 60.0,
    }
    return Lease.model_validate(values | over)


def lines(**over: Any) -> str:
    host = a_host()
    return "\n".join(status_lines((host,), {host.name: a_state(**over)}, Paint(on=False), details=False))


def test_a_running_transition_shows_the_age_of_its_claim_and_that_it_is_fresh() -> None:
    shown = lines(lease=Known(value=a_lease()), executor=RUNNING)

    assert "transition running t1, step drain, by ada@laptop; it ends by itself" in shown
    assert "claim of epoch 7, held for 1m30s, renewed 12s ago (fresh)" in shown


@pytest.mark.parametrize("over", [{"renewed": a_state().identity.boottime_s - 61}, {"boot_id": "another"}])
def test_a_claim_that_is_not_renewed_in_time_is_said_to_be(over: dict[str, Any]) -> None:
    shown = lines(lease=Known(value=a_lease(**over)), executor=RUNNING)

    assert "(not renewed in time: the executor hangs or is stopped)" in shown


def test_a_claim_without_an_executor_is_void_and_one_that_cannot_be_read_is_held() -> None:
    left = lines(lease=Known(value=a_lease()))
    torn = lines(lease=Unknown(unknown="torn"), epoch=Known(value=7))

    assert "ada@laptop left a claim of epoch 7 behind, which is void" in left
    assert "whether somebody has it: torn" in torn
    assert "recon lock force-release spark-1 --epoch 7 --reason TEXT" in torn


def test_what_a_host_calls_damaged_is_shown_harmless() -> None:
    shown = lines(damaged=(Damage(path="/var/lib/recon/x\x1b[2J", code="REC5020", reason="torn\u202e"),))

    assert "damaged [REC5020] /var/lib/recon/x" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize(
    ("over", "health", "word"),
    [
        (
            {"active": "activating", "sub": "auto-restart", "restarts": 3, "last_exit": "exit status 1"},
            None,
            "crashes again and again (4 times, last with exit status 1)",
        ),
        ({"restarts": 3}, Health(ok=False, status=503, detail="503"), "crashes again and again (3 times)"),
        ({"restarts": 3}, Health(ok=True, status=200, detail=""), "ok"),
        ({"restarts": 0}, Health(ok=False, status=503, detail="503"), "unhealthy (503)"),
        (
            {"restarts": 0},
            Health(ok=False, status=200, detail="asleep (discard_all)", asleep=True),
            "asleep (discard_all)",
        ),
        ({"active": "activating", "sub": "auto-restart", "restarts": 0}, None, "activating"),
    ],
)
def test_a_service_that_systemd_restarts_again_and_again_is_said_to_crash(
    over: dict[str, Any], health: Health | None, word: str
) -> None:
    group = a_group("reasoning", a_member("reasoning", "vllm"))
    unit = a_unit("recon-reasoning-vllm.service", **over)
    state = a_state_running(
        a_rendered(group, live={"all": "reasoning"}),
        units=Known(value=(a_unit(group.gate), unit)),
        health={unit.name: Known(value=health)} if health else {},
    )
    host = a_host()

    shown = "\n".join(status_lines((host,), {host.name: state}, Paint(on=False), details=False))

    assert f"vllm {word}  " in shown


@pytest.mark.parametrize(
    ("last", "shown"),
    [
        ({"state": "applied", "started_at": 100.0, "elapsed_s": 4.0}, "applied 1m ago"),
        ({"state": "applied", "started_at": "soon", "elapsed_s": 4.0}, "applied at a time unknown"),
        ({"state": "applied", "started_at": 1e300}, "applied at a time unknown"),
        ({"state": "applied"}, "applied at a time unknown"),
        ({"state": ["\x1b[8m"], "started_at": None}, "['\\x1b[8m'] at a time unknown"),
        ({}, "? at a time unknown"),
    ],
)
def test_a_last_outcome_that_says_less_than_it_should_is_shown_as_it_is(last: dict[str, Any], shown: str) -> None:
    executor = Executor(active=False, txid=None, last=Known(value=last))
    identity = a_state().identity.model_copy(update={"wall_time": 164.0})

    assert shown in lines(executor=executor, identity=identity)

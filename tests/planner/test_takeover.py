"""What a plan says of a take-over: how much GPU memory is held by what makes room, and when that cannot be told."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.diff import diff_host, ignored_facts
from reconciler.model.observed import Adoptee, Known
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from tests.builders import GIB, a_gpu, a_group, a_host, a_member, a_process, a_rendered, a_state, unknown

OLD = Adoptee(
    name="llama.service", kind="unit", active="active", is_up=True, boots=True, container=None, stop_timeout_s=90.0
)
NEW = a_rendered(
    a_group("chat", a_member("chat", "llama", memory=40 * GIB, adopts=("llama.service",))), live={"all": "chat"}
)
HOLDER = a_process(unit="llama.service")
UNREAD = a_gpu().model_copy(update={"processes": unknown("no permission")})
UNTOLD = "how much GPU memory it holds cannot be told"


@pytest.mark.parametrize(
    ("gpus", "held"),
    [
        ((a_gpu(processes=(HOLDER, HOLDER)),), "it holds 2GiB of GPU memory"),
        ((a_gpu(),), "it holds no GPU memory"),
        ((UNREAD,), UNTOLD),
        ((a_gpu(processes=(HOLDER,)), UNREAD), UNTOLD),
        ((a_gpu(processes=(HOLDER.model_copy(update={"bytes": unknown("not supported")}),)),), UNTOLD),
    ],
)
def test_a_plan_says_what_the_old_server_holds_and_never_takes_the_unknown_for_nothing(gpus: Any, held: str) -> None:
    state = a_state(gpus=Known(value=gpus), adoptees=Known(value=(OLD,)))
    subject = look_at(NEW, a_host(coven="chat"), state)

    (transition,) = plan_host(subject, diff_host(subject), fleet="studio", ignored=ignored_facts(state)).transitions

    assert f"llama.service serves until llama takes its place; {held}" in (transition.cuts_off or "")

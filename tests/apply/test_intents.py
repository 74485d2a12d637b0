"""From a plan to an order: the digest that proves it, the header, and every field that must arrive."""

from __future__ import annotations

import hashlib

import pytest

from reconciler.apply.intents import build_intent, check_plan
from reconciler.errors import RefusedError, StaleError
from reconciler.model.digest import plan_digest
from reconciler.model.header import body_of, header
from reconciler.model.intent import Intent, IntentFile
from reconciler.model.plan import Order
from tests.apply.plans import BODY, a_host_plan, a_plan, an_order, sealed


def test_an_order_arrives_whole_with_headers_and_the_names_of_this_run() -> None:
    plan = a_plan(a_host_plan("spark-1"))
    intent = build_intent(plan, plan.hosts[0], txid="t1", owner="ann@laptop")
    content = header("studio/spark-1", "aaaa000000000001", "c" * 40) + BODY
    digest = hashlib.sha256(BODY.encode()).hexdigest()
    order = an_order()

    assert intent == Intent(
        protocol=1,
        txid="t1",
        fleet="studio",
        host="spark-1",
        owner="ann@laptop",
        source_commit="c" * 40,
        plan_digest=plan.plan_digest,
        fingerprint="sha256:" + "f" * 64,
        quadlets=(
            IntentFile(name="recon-a-s.container", content=content, body_sha256=digest, config_hash="aaaa000000000001"),
        ),
        natives=(),
        manifest_live=order.live,
        **{name: getattr(order, name) for name in Order.model_fields if name not in {"quadlets", "natives", "live"}},
    )


def test_the_header_can_be_taken_off_again() -> None:
    text = header("studio/spark-1", "aaaa000000000001", None) + BODY

    assert text == (
        "# Managed by recon: change desired/ in git, then run recon apply.\n"
        "# recon-owner: studio/spark-1\n# recon-config-hash: aaaa000000000001\n" + BODY
    )
    assert body_of(text) == BODY
    assert body_of("# only a header\n") == ""


def test_a_value_cannot_leave_its_header_line() -> None:
    with pytest.raises(ValueError, match="not one printable line"):
        header("studio/spark-1", "a", "c\n[Service]")


def test_a_plan_that_was_edited_is_refused_whatever_was_edited() -> None:
    plan = a_plan(a_host_plan("spark-1"))
    edited_body = plan.model_copy(update={"blobs": {name: body + "x" for name, body in plan.blobs.items()}})
    host = plan.hosts[0]
    assert host.order
    edited_order = host.order.model_copy(update={"boot": ("recon-coven-b.target",)})
    edited = [edited_body, plan.model_copy(update={"hosts": (host.model_copy(update={"order": edited_order}),)})]

    for changed in edited:
        with pytest.raises(StaleError) as caught:
            check_plan(changed, "studio")
        assert caught.value.problems[0].code == "REC7010"


def test_a_plan_of_another_fleet_is_refused() -> None:
    with pytest.raises(StaleError) as caught:
        check_plan(a_plan(a_host_plan("spark-1")), "workshop")

    assert caught.value.problems[0].code == "REC7031"


def test_a_plan_that_says_it_cannot_be_applied_is_refused() -> None:
    plan = sealed(a_plan(a_host_plan("spark-1")).model_copy(update={"applyable": False}))
    with pytest.raises(RefusedError) as caught:
        check_plan(plan, "studio")

    assert caught.value.problems[0].code == "REC7016"


def test_a_body_that_is_missing_or_another_one_never_gets_out() -> None:
    plan = a_plan(a_host_plan("spark-1"))
    for blobs in ({}, dict.fromkeys(plan.blobs, "another body\n")):
        with pytest.raises(StaleError):
            build_intent(plan.model_copy(update={"blobs": blobs}), plan.hosts[0], txid="t", owner="o")


def test_the_digest_leaves_out_what_is_not_intent() -> None:
    plan = a_plan(a_host_plan("spark-1"), a_host_plan("spark-2"))
    same = plan.model_copy(
        update={
            "created_at": 9.0,
            "warnings": ("w",),
            "recon_version": "9",
            "hosts": tuple(
                host.model_copy(update={"observed_fingerprint": "other", "observed_at": 9.0, "warnings": ("w",)})
                for host in reversed(plan.hosts)
            ),
        }
    )

    assert plan_digest(same) == plan_digest(plan) == plan.plan_digest
    assert plan.plan_digest.startswith("sha256:")
    assert plan_digest(a_plan(a_host_plan("spark-1"))) != plan.plan_digest

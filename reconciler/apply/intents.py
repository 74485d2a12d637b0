"""From a reviewed plan to the order one host gets: the same bytes, with names of this run and headers stamped on.

Must not: render, decide, or leave out what the plan says.
"""

from __future__ import annotations

from reconciler import __version__
from reconciler.errors import Problem, RefusedError, StaleError
from reconciler.model.digest import plan_digest, sha256_hex
from reconciler.model.header import header
from reconciler.model.intent import Intent, IntentFile
from reconciler.model.plan import FileRef, HostPlan, Order, Plan


def check_plan(plan: Plan, fleet: str) -> None:
    """Refuse a plan that is not, byte for byte, what was reviewed, or that belongs to another fleet.

    Raises:
        StaleError: REC7010, the plan was changed after it was made; REC7031, it is another fleet's; REC7155, another
            recon made it.
        RefusedError: REC7016, it says itself that it cannot be applied.
    """
    found = plan_digest(plan)
    if found != plan.plan_digest:
        detail = f"its digest says {plan.plan_digest}, its content makes {found}"
        raise StaleError(Problem("REC7010", "the plan was changed after it was made", detail, "recon plan"))
    if plan.recon_version != __version__:
        detail = f"it was made by recon {plan.recon_version}, this is {__version__}, which may read a host differently"
        raise StaleError(Problem("REC7155", "the plan was made by another version of recon", detail, "recon plan"))
    if plan.fleet != fleet:
        detail = f"the plan is for {plan.fleet}, this repository is {fleet}"
        raise StaleError(Problem("REC7031", "the plan is for another fleet", detail, "recon plan"))
    if not plan.applyable and any(host.order for host in plan.hosts):
        detail = "it is marked as not applicable, although it has orders"
        raise RefusedError(Problem("REC7016", "the plan cannot be applied", detail, "recon plan"))


def build_intent(plan: Plan, host_plan: HostPlan, *, txid: str, owner: str) -> Intent:
    """Return what this host is told to do.

    Args:
        plan: the plan, checked by `check_plan`.
        host_plan: one of its hosts, with an order.
        txid: the name of this transaction; sorts by time, for the host takes the last name for the newest.
        owner: who does this, for the lease and the history.

    Raises:
        StaleError: REC7010, the plan lacks a body or has another one under its digest.
    """
    order = _order_of(host_plan)
    if host_plan.observed_fingerprint is None:
        raise _broken(f"{host_plan.host} has an order and no fingerprint of what it was made for")
    return Intent(
        protocol=1,
        txid=txid,
        fleet=plan.fleet,
        host=host_plan.host,
        owner=owner,
        source_commit=plan.source.label,
        plan_digest=plan.plan_digest,
        fingerprint=host_plan.observed_fingerprint,
        fingerprint_parts=host_plan.observed_parts,
        quadlets=tuple(_file(plan, host_plan.host, ref) for ref in order.quadlets),
        natives=tuple(_file(plan, host_plan.host, ref) for ref in order.natives),
        manifest_live=order.live,
        # Everything else stands in the order under the same name; a field that is added there gets to the host.
        **{name: getattr(order, name) for name in Order.model_fields if name not in {"quadlets", "natives", "live"}},
    )


def _order_of(host_plan: HostPlan) -> Order:
    if host_plan.order is None:
        raise _broken(f"{host_plan.host} has no order")
    return host_plan.order


def _file(plan: Plan, host: str, ref: FileRef) -> IntentFile:
    body = plan.blobs.get(ref.body_sha256)
    if body is None or sha256_hex(body.encode()) != ref.body_sha256:
        raise _broken(f"the body of {ref.name} for {host} is missing or not the one that is named")
    stamp = header(f"{plan.fleet}/{host}", ref.config_hash, plan.source.label)
    return IntentFile(name=ref.name, content=stamp + body, body_sha256=ref.body_sha256, config_hash=ref.config_hash)


def _broken(detail: str) -> StaleError:
    return StaleError(Problem("REC7010", "the plan was changed after it was made", detail, "recon plan"))

"""The units that send events: there when somebody is to be told, and nothing of them when nobody is."""

from __future__ import annotations

from reconciler.model.digest import target_digest
from reconciler.model.events import Events
from reconciler.model.intent_events import EventsSpec, WebhookSpec
from reconciler.render.host import render_host
from tests.agent.bench import Bench

SERVICE = """\
[Unit]
Description=recon: tell of what happened

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -S %S/recon/agent/current deliver
TimeoutStartSec=600
LogLevelMax=notice

[X-Recon]
Url-audit=https://audit.example.net/100%%
SecretFile-audit=/etc/recon/secrets/audit
Events-audit=all
Timeout-audit=10
Url-ops=https://hooks.example.net/recon
SecretFile-ops=/etc/recon/secrets/ops
Events-ops=transition.* drift.found
Timeout-ops=5
"""


def test_every_webhook_stands_in_the_unit_and_in_what_the_host_goes_by() -> None:
    bench = Bench()
    bench.webhooks = Events.model_validate(
        {
            "webhooks": {
                "ops": {
                    "url": "https://hooks.example.net/recon",
                    "secret_file": "/etc/recon/secrets/ops",
                    "events": ("transition.*", "drift.found"),
                    "timeout": "5s",
                },
                "audit": {"url": "https://audit.example.net/100%", "secret_file": "/etc/recon/secrets/audit"},
            }
        }
    )
    rendered, _ = bench.rendered("reasoning")

    bodies = {file.name: file.body for file in rendered.files if "events" in file.name}
    assert sorted(bodies) == ["recon-events.service", "recon-events.timer"]
    assert bodies["recon-events.service"] == SERVICE
    assert rendered.boot == ("recon-coven-reasoning.target", "recon-events.timer")
    assert rendered.events == EventsSpec(
        webhooks={
            "audit": WebhookSpec(
                url="https://audit.example.net/100%", secret_file="/etc/recon/secrets/audit", events=(), timeout_s=10.0
            ),
            "ops": WebhookSpec(
                url="https://hooks.example.net/recon",
                secret_file="/etc/recon/secrets/ops",
                events=("transition.*", "drift.found"),
                timeout_s=5.0,
            ),
        }
    )


def test_a_host_that_tells_nobody_is_what_it_was_before_there_were_events() -> None:
    bench = Bench()
    rendered, _ = bench.rendered("reasoning")
    assert not [file.name for file in rendered.files if "events" in file.name]
    assert rendered.events is None
    bench.webhooks = Events.model_validate({"webhooks": {"a": {"url": "https://h.example.net/", "secret_file": "/x"}}})
    assert target_digest(bench.rendered("reasoning")[0]) != target_digest(rendered)


def test_hosts_of_one_kind_with_other_webhooks_do_not_share_their_files() -> None:
    from reconciler.model.desired import Fleet, Policy
    from reconciler.render import Memo

    bench = Bench()
    _, quiet = bench.rendered("reasoning")
    hook = {"url": "https://h.example.net/", "secret_file": "/etc/recon/secrets/a"}
    loud = quiet.model_copy(update={"events": Events.model_validate({"webhooks": {"a": hook}})})
    fleet = Fleet(name="studio", transport="ssh", policy=Policy(), covens=bench.covens, hosts={})
    memo = Memo(fleet, {})
    assert render_host(fleet, quiet, {}, memo).events is None
    assert render_host(fleet, loud, {}, memo).events is not None
    assert render_host(fleet, quiet, {}, memo).events is None

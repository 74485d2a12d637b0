"""Whom a host tells: what the fleet says, what the host adds, and how a host is left out."""

from __future__ import annotations

from pathlib import Path

from reconciler.load.fleet import load_fleet
from reconciler.model.events import Events
from tests.load.states import FLEET, HOST, write

FLEET_SAYS = "events:\n  webhooks:\n    ops: {url: 'https://h.example.net/', secret_file: /etc/recon/secrets/ops}\n"


def test_a_host_adds_to_the_webhooks_of_the_fleet_replaces_one_or_has_none(tmp_path: Path) -> None:
    own = (
        "events: {webhooks: {mine: {url: 'http://192.0.2.9/x', secret_file: /etc/recon/secrets/m, events: [host.*]},"
        " ops: {url: 'https://other.example.net/', secret_file: /etc/recon/secrets/ops, timeout: 5s}}}\n"
    )
    files = {
        "desired/fleet.yaml": FLEET + FLEET_SAYS,
        "desired/hosts/own.yaml": HOST.replace("192.0.2.1", "192.0.2.2") + own,
        "desired/hosts/none.yaml": HOST.replace("192.0.2.1", "192.0.2.3") + "events: {enabled: false}\n",
    }
    hosts = load_fleet(write(tmp_path, files)).hosts

    ops = {"url": "https://h.example.net/", "secret_file": "/etc/recon/secrets/ops"}
    assert hosts["box"].events == Events.model_validate({"webhooks": {"ops": ops}})
    assert hosts["none"].events is None
    assert hosts["own"].events == Events.model_validate(
        {
            "webhooks": {
                "ops": {**ops, "url": "https://other.example.net/", "timeout": "5s"},
                "mine": {"url": "http://192.0.2.9/x", "secret_file": "/etc/recon/secrets/m", "events": ("host.*",)},
            }
        }
    )


def test_a_fleet_that_says_nothing_tells_nobody(tmp_path: Path) -> None:
    assert load_fleet(write(tmp_path, {})).hosts["box"].events is None


def test_a_fleet_may_be_silent_but_for_one_host(tmp_path: Path) -> None:
    files = {
        "desired/fleet.yaml": FLEET + FLEET_SAYS + "  enabled: false\n",
        "desired/hosts/own.yaml": HOST.replace("192.0.2.1", "192.0.2.2") + "events: {enabled: true}\n",
    }
    hosts = load_fleet(write(tmp_path, files)).hosts
    assert hosts["box"].events is None
    assert hosts["own"].events is not None

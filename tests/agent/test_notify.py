"""Asking systemd for more time: one datagram, where systemd said it listens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from reconciler.agent import notify


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_more_time_is_asked_for_in_the_words_of_systemd(kind: str, tmp_path: Path) -> None:
    address = str(tmp_path / "notify") if kind == "path" else "@recon-test-notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address if kind == "path" else "\0" + address[1:])

        assert notify.extend(90.0, {"NOTIFY_SOCKET": address}) is True
        assert heard.recv(100) == b"EXTEND_TIMEOUT_USEC=90000000"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_where_nobody_listens_nothing_fails(environment: dict[str, str]) -> None:
    assert notify.extend(90.0, environment) is False

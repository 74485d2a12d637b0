"""An engine that is asleep answers its health address with 200 and serves nobody."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import health
from reconciler.agent.asleep import asleep, sleep_in
from reconciler.agent.busy import Busy, busy_of
from reconciler.agent.machine import Response
from reconciler.agent.samples import Sample, samples
from tests.agent.fakehost import FakeHost

BASE = "http://127.0.0.1:8000"
METRIC = "vllm:engine_sleep_state"
PROBE = {"url": f"{BASE}/metrics", "metric": METRIC, "label": "sleep_state", "awake": "awake"}
MEMBER = {"asleep": PROBE}
ASLEEP = "asleep (weights_offloaded)"
GAUGES: dict[str, Any] = {
    "url": f"{BASE}/metrics",
    "form": "prometheus",
    "names": ["vllm:num_requests_running", "vllm:num_requests_waiting"],
    "field": "",
}
LOAD = {"url": f"{BASE}/load", "form": "json", "names": [], "field": "server_load", "also": True, "exact": True}


def metrics(awake: float, offloaded: float = 0, discarded: float = 0, engine: int = 0) -> str:
    states = {"awake": awake, "weights_offloaded": offloaded, "discard_all": discarded}
    return "".join(
        f'{METRIC}{{engine="{engine}",model_name="a,b}} \\"c\\"=",sleep_state="{state}"}} {value}\n'
        for state, value in states.items()
    )


@pytest.mark.parametrize(
    ("body", "how"),
    [
        (metrics(1), ""),
        (metrics(0, offloaded=1), ASLEEP),
        (metrics(0, discarded=1), "asleep (discard_all)"),
        # Level 0: it keeps its weights and begins nothing.
        (metrics(0), "asleep"),
        (metrics(1) + metrics(0, offloaded=1, engine=1), ASLEEP),
        # Builds from before there was such a metric, and what is no number, say nothing.
        ("", ""),
        ("vllm:num_requests_running 0\n", ""),
        (f'{METRIC}{{sleep_state="awake"}} NaN\n', ""),
        (f"{METRIC} 0\n", ""),
        (f'{METRIC}{{sleep_state="awake" 0\n', ""),
        (f'{METRIC}_created{{sleep_state="awake"}} 0\n', ""),
        (f'{METRIC}{{sleep_state="awake"}} 0\n{METRIC}{{sleep_state="\x1b[2J"}} 1\n', "asleep (\\x1b[2J)"),
    ],
)
def test_it_is_asleep_where_its_metric_says_that_it_is_not_awake(body: str, how: str) -> None:
    assert sleep_in(PROBE, body.encode()) == how


def test_labels_are_read_whatever_stands_in_them() -> None:
    text = 'm{a="1",b="x,y=\\"z\\"}",c=""} 2 1700000000\nother 3\nm 4\n'

    assert list(samples(text, ["m"])) == [
        Sample("m", {"a": "1", "b": 'x,y=\\"z\\"}', "c": ""}, 2.0),
        Sample("m", {}, 4.0),
    ]


@pytest.mark.parametrize(
    ("member", "answer"),
    [
        ({}, Response(200, metrics(0).encode())),
        (MEMBER, Response(500, metrics(0).encode())),
        (MEMBER, Response(0, b"Connection refused")),
    ],
)
def test_who_does_not_say_it_is_not_called_asleep(member: dict[str, Any], answer: Response) -> None:
    assert asleep(FakeHost(addresses={PROBE["url"]: answer}), member) == ""


def test_a_server_that_sleeps_is_not_healthy_though_its_address_says_200() -> None:
    url = f"{BASE}/health"
    host = FakeHost(addresses={url: Response(200, b""), PROBE["url"]: Response(200, metrics(0, 1).encode())})

    assert health.probe(host, url, MEMBER) == {"value": {"ok": False, "status": 200, "detail": ASLEEP, "asleep": True}}
    assert health.probe(host, url) == {"value": {"ok": True, "status": 200, "detail": ""}}


@pytest.mark.parametrize(
    ("load", "probes", "busy"),
    [
        (Response(200, b'{"server_load": 0}'), [GAUGES, LOAD], Busy(0, "", ASLEEP)),
        (Response(200, b'{"server_load": 2}'), [GAUGES, LOAD], Busy(2, "", ASLEEP)),
        (
            Response(404, b""),
            [GAUGES, LOAD],
            Busy(None, f"it is {ASLEEP}, so its gauges stand still; /load answered 404", ASLEEP),
        ),
        (
            Response(200, b'{"server_load": 0}'),
            [GAUGES, {**LOAD, "exact": False}],
            Busy(None, f"it is {ASLEEP}, so its gauges stand still; nothing else counts exactly", ASLEEP),
        ),
    ],
)
def test_the_gauges_of_an_engine_that_sleeps_are_no_figure(
    load: Response, probes: list[dict[str, Any]], busy: Busy
) -> None:
    stuck = b"vllm:num_requests_running 3\nvllm:num_requests_waiting 0\n"
    host = FakeHost(addresses={f"{BASE}/metrics": Response(200, stuck), f"{BASE}/load": load})

    assert busy_of(host, probes, ASLEEP) == busy


def test_of_a_cut_answer_only_whole_lines_can_say_that_it_is_asleep() -> None:
    def said(body: str) -> str:
        return asleep(FakeHost(addresses={PROBE["url"]: Response(200, body.encode(), cut=True)}), MEMBER)

    assert said(metrics(0, offloaded=1) + metrics(1, engine=1)) == ASLEEP
    assert said(f'{METRIC}{{sleep_state="awake"}} 0') == ""
    assert said(f'{METRIC}{{sleep_state="awake"}} 1\n') == ""

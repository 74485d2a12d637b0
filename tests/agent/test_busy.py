from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent.busy import Busy, busy_of, figure_in
from reconciler.agent.machine import Response
from tests.agent.fakehost import FakeHost

VLLM = {
    "url": "http://127.0.0.1:8000/metrics",
    "form": "prometheus",
    "names": ["vllm:num_requests_running", "vllm:num_requests_waiting"],
    "field": "",
}
METRICS = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b} \\"c"} 2.0
vllm:num_requests_running{engine="1",model_name="a"} 1.0 1700000000
vllm:num_requests_waiting{engine="0"} 4.0
vllm:num_requests_waiting_by_reason{engine="0"} 9.0
process_start_time_seconds NaN
"""


def a_probe(form: str, field: str = "", *names: str) -> dict[str, Any]:
    return {"url": "http://127.0.0.1:8000/x", "form": form, "names": list(names), "field": field}


def test_all_samples_of_all_names_are_summed_and_no_other() -> None:
    assert figure_in(VLLM, METRICS) == 7


@pytest.mark.parametrize(
    "body",
    [
        b"vllm:num_requests_running 0\n",
        b"vllm:num_requests_running 0\nvllm:num_requests_waiting NaN\n",
        b"vllm:num_requests_running 0\nvllm:num_requests_waiting +Inf\n",
        b"vllm:num_requests_running -1\nvllm:num_requests_waiting 0\n",
        b"vllm:num_requests_running 0\nvllm:num_requests_waiting\n",
        b"vllm:num_requests_running 0\nvllm:num_requests_waiting zero\n",
        b'vllm:num_requests_running{a="b 0\nvllm:num_requests_waiting 0\n',
        b"<html>not here</html>",
        b"\xff\xfe",
        b"",
    ],
)
def test_a_metric_that_is_missing_or_no_number_is_no_figure(body: bytes) -> None:
    assert figure_in(VLLM, body) is None


@pytest.mark.parametrize(
    ("field", "body", "figure"),
    [
        ("loads", b'{"loads": [{"running": 2, "waiting": 1}, {"running": 4, "waiting": 0, "more": "x"}]}', 7),
        ("", b'[{"running": 0, "waiting": 0}]', 0),
        ("", b'{"running": [["a"], ["b"]], "waiting": []}', 2),
        ("loads", b'{"loads": []}', None),
        ("loads", b'{"loads": [{"running": 0}]}', None),
        ("loads", b'{"loads": [{"running": 0, "waiting": null}]}', None),
        ("loads", b'{"loads": [{"running": 0, "waiting": -1}]}', None),
        ("loads", b'{"loads": [3]}', None),
        ("loads", b"[]", None),
        ("", b"3", None),
    ],
)
def test_named_figures_are_summed_over_every_object_and_one_that_is_missing_is_no_figure(
    field: str, body: bytes, figure: int | None
) -> None:
    assert figure_in(a_probe("json_sum", field, "running", "waiting"), body) == figure


def test_a_fraction_of_a_request_is_work() -> None:
    assert figure_in(a_probe("prometheus", "", "busy"), b"busy 0.25\n") == 1


@pytest.mark.parametrize(
    ("field", "body", "figure"),
    [
        ("exec_info.queue_remaining", b'{"exec_info": {"queue_remaining": 3}}', 3),
        ("queue", b'{"queue": [1, 2]}', 2),
        ("queue", b'{"queue": []}', 0),
        ("server_load", b'{"server_load": 0}', 0),
        ("workers.1.busy", b'{"workers": [{"busy": 1}, {"busy": 5}]}', 5),
        ("", b"4", 4),
        ("queue", b'{"other": 0}', None),
        ("queue", b'{"queue": null}', None),
        ("queue", b'{"queue": true}', None),
        ("queue", b'{"queue": "0"}', None),
        ("queue", b'{"queue": -1}', None),
        ("queue", b'{"queue": NaN}', None),
        ("queue.x", b'{"queue": 0}', None),
        ("queue", b"[]", None),
        ("queue", b"not json", None),
        ("queue", b"[" * 100_000, None),
    ],
)
def test_a_json_field_counts_when_it_is_a_number_or_a_list(field: str, body: bytes, figure: int | None) -> None:
    assert figure_in(a_probe("json", field), body) == figure


@pytest.mark.parametrize(
    ("body", "figure"),
    [
        (b'[{"is_processing": true}, {"is_processing": false}, {"is_processing": true}]', 2),
        (b'[{"is_processing": false}]', 0),
        (b'[{"id": 0}]', None),
        (b'[{"is_processing": 1}]', None),
        (b"[true]", None),
        (b'{"error": {"code": 503}}', None),
    ],
)
def test_slots_count_when_each_says_whether_it_works(body: bytes, figure: int | None) -> None:
    assert figure_in(a_probe("json_true", "is_processing"), body) == figure


_HUGE = "9" * 400


@pytest.mark.parametrize("number", ["1e308", "1e400", "inf", "-inf", "nan", "-1", "1e12", _HUGE, "9" * 5000])
def test_a_number_that_counts_no_requests_is_no_figure(number: str) -> None:
    lines = f"vllm:num_requests_running {number}\nvllm:num_requests_running {number}\n"

    assert figure_in(VLLM, f"{lines}vllm:num_requests_waiting 0\n".encode()) is None


@pytest.mark.parametrize("number", ["1e308", "1e400", "Infinity", "-Infinity", "NaN", "-1", "true", _HUGE, "9" * 5000])
@pytest.mark.parametrize("form", ["json", "json_sum"])
def test_a_json_number_that_counts_no_requests_is_no_figure(form: str, number: str) -> None:
    where = ("running", ()) if form == "json" else ("", ("running", "waiting"))
    probe = a_probe(form, where[0], *where[1])

    assert figure_in(probe, f'{{"running": {number}, "waiting": {number}}}'.encode()) is None


@pytest.mark.parametrize("form", ["json", "json_sum", "json_true"])
def test_a_reply_that_is_nested_too_deep_is_no_figure(form: str) -> None:
    assert figure_in(a_probe(form, "running", "running"), b"[" * 200_000) is None
    assert figure_in(a_probe(form, "running", "running"), b'{"running":' * 200_000) is None


def test_a_figure_that_is_no_figure_is_told_as_unknown() -> None:
    body = b"vllm:num_requests_running 1e308\nvllm:num_requests_waiting 1e308\n"
    host = FakeHost(addresses={str(VLLM["url"]): Response(200, body)})

    asked = busy_of(host, [VLLM])

    assert asked == Busy(None, "/metrics does not say vllm:num_requests_running, vllm:num_requests_waiting")


def test_a_reply_that_was_cut_is_no_figure_and_the_next_one_is_asked() -> None:
    idle = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
    cut = {str(VLLM["url"]): Response(200, idle, cut=True)}
    slots = {**a_probe("json_true", "busy"), "url": "http://127.0.0.1:8000/slots"}

    assert busy_of(FakeHost(addresses=cut), [VLLM]) == Busy(
        None, "/metrics answered 200 with more than is read of an answer"
    )
    host = FakeHost(addresses={**cut, str(slots["url"]): Response(200, b'[{"busy": true}]')})
    assert busy_of(host, [VLLM, slots]) == Busy(1)


def test_an_unknown_form_is_no_figure() -> None:
    assert figure_in(a_probe("xml"), b"0") is None


def test_the_first_probe_that_answers_in_its_form_counts() -> None:
    first = a_probe("json", "load") | {"url": "http://127.0.0.1:1/load"}
    second = a_probe("json", "load") | {"url": "http://127.0.0.1:2/load"}
    third = a_probe("json", "load") | {"url": "http://127.0.0.1:3/load"}
    host = FakeHost(
        addresses={
            "http://127.0.0.1:1/load": Response(404, b'{"load": 0}'),
            "http://127.0.0.1:2/load": Response(200, b'{"load": 2}'),
            "http://127.0.0.1:3/load": Response(200, b'{"load": 0}'),
        }
    )

    assert busy_of(host, [first, second, third]) == Busy(2)
    assert busy_of(host, [first]) == Busy(None, '/load answered 404: {"load": 0}')
    assert busy_of(host, []) == Busy(None)


def test_a_probe_that_is_asked_besides_can_only_add() -> None:
    first = a_probe("json", "load") | {"url": "http://127.0.0.1:1/load"}
    more = a_probe("json", "load") | {"url": "http://127.0.0.1:2/load", "also": True}

    def asked(figure: str, besides: str) -> Busy:
        answers = {"http://127.0.0.1:1/load": figure, "http://127.0.0.1:2/load": besides}
        host = FakeHost(addresses={url: Response(200, text.encode()) for url, text in answers.items()})
        return busy_of(host, [more, first])

    assert asked('{"load": 0}', '{"load": 2}') == Busy(2)
    assert asked('{"load": 3}', '{"load": 0}') == Busy(3)
    assert asked('{"load": 0}', '{"load": -1}') == Busy(0)
    assert asked("{}", '{"load": 0}') == Busy(None, "/load does not say load")

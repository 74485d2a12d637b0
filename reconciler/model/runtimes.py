"""The one table of model servers: how each is launched, probed, paused and warmed up.

Everything here is data about other people's programs, written down once: `render` turns it into arguments and
addresses, `load` asks `clashing_args` which words a person must not repeat. Probes are tried in the order they stand.

Must not: know ports, hosts or units, and hold nothing that a server does not offer by itself.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Frozen
from reconciler.model.desired import HttpCall, RuntimeName
from reconciler.model.weights import Layout

DEFAULT_CACHE = "/srv/huggingface/hub"
"""Where a host keeps its hub models when git does not say."""

_HUB_ENV = (
    # The second is the name of the first in older releases of the hub's own library.
    ("HF_HUB_CACHE", "{cache}"),
    ("HUGGINGFACE_HUB_CACHE", "{cache}"),
    ("HF_HUB_OFFLINE", "1"),
    ("TRANSFORMERS_OFFLINE", "1"),
)


class InFlightProbe(Frozen):
    """Where a server says how busy it is; `form`, `names`, `field` and `also` as in `model.intent.BusyProbe`.

    It is exact with the flag `exact_with` and without any of `exact_unless`; never when there is no such flag.
    """

    path: str
    form: Literal["prometheus", "json", "json_true", "json_sum"]
    names: tuple[str, ...] = ()
    field: str = ""
    also: bool = False
    exact_with: str | None = None
    exact_unless: tuple[str, ...] = ()


class AwakeMetric(Frozen):
    """The metric by which a server says whether it is awake, as in `model.intent.SleepProbe`."""

    path: str
    metric: str
    label: str
    awake: str


class PausedField(Frozen):
    """Where a server says whether it is paused, as in `model.intent.PauseProbe`."""

    path: str
    field: str


class WarmRequest(Frozen):
    """A generation of one token.

    `{model}` in the body becomes the id that `model_path` lists first; `{name}` the model as it was given.
    """

    call: HttpCall
    model_path: str | None = None


class StopRule(Frozen):
    """How long a server may take to end after SIGTERM, so that the SIGKILL at `stop.timeout` does not cut its work.

    Attributes:
        flag: the word with which `args` promise clients so many seconds to finish in.
        promised_s: what the server promises without that word.
        margin_s: what it takes on top to come down.
        why: what it does on SIGTERM, for people.
    """

    flag: str | None = None
    promised_s: float
    margin_s: float
    why: str


class Runtime(Frozen):
    """One kind of server.

    Attributes:
        program: the words that start it, where its image does not by itself.
        model_from: the ways in which a model may be given.
        needs_model: whether it serves nothing without one.
        model_flag: the word before a path to weights.
        hub_flag: the word before the name of a hub repository.
        port_flag: the word before the port.
        owned: every spelling of what the three flags above set; a person must not set them again.
        hub_has_tags: whether a hub name may end with `:tag`.
        hub_layout: how the cache is laid out in which it finds a hub model; None when it finds none by itself.
        hub_env: variables by which it looks into that cache (`{cache}`) and nowhere else; not to be set again.
        revision_flag: the word before the revision of a hub model.
        needs_template: whether chat fails for a model without a chat template; `template_flag` gives it another one.
        no_chat: words after which nobody chats with it.
        resizes: words after which the size of the files says nothing about the memory they take.
        defaults: words added unless `args` already set their first word.
        env: variables it is told its port by (`{port}`); a person must not set them again.
        name_flag: the word that changes the name a model is served under; else it is the model as it was given.
        blinding: words that make it stop counting its requests, so that a drain would wait for a frozen figure.
        stop: what it promises to requests in flight on SIGTERM; None when it promises nothing.
        paused: where it says whether a pause happened.
        asleep: where it says whether it is awake.
        steady_s: how long it must run without a break to count as up, where nothing of it can be asked.
    """

    name: RuntimeName
    program: tuple[str, ...] = ()
    model_from: tuple[Literal["path", "hub"], ...] = ("path", "hub")
    needs_model: bool = False
    hub_has_tags: bool = False
    hub_layout: Layout | None = None
    hub_env: tuple[tuple[str, str], ...] = ()
    revision_flag: str | None = None
    needs_template: bool = False
    template_flag: str | None = None
    no_chat: tuple[str, ...] = ()
    resizes: tuple[str, ...] = ()
    model_flag: str | None = None
    hub_flag: str | None = None
    port_flag: str | None = None
    owned: tuple[str, ...] = ()
    defaults: tuple[tuple[str, ...], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    name_flag: str | None = None
    blinding: tuple[str, ...] = ()
    stop: StopRule | None = None
    health: str | None = None
    in_flight: tuple[InFlightProbe, ...] = ()
    pause: HttpCall | None = None
    resume: HttpCall | None = None
    paused: PausedField | None = None
    asleep: AwakeMetric | None = None
    steady_s: float = 0.0
    warm: WarmRequest | None = None


VLLM = Runtime(
    name="vllm",
    needs_model=True,
    hub_layout="hub",
    hub_env=_HUB_ENV,
    revision_flag="--revision",
    needs_template=True,
    template_flag="--chat-template",
    no_chat=("--runner", "--task", "--convert"),
    resizes=("--quantization", "-q", "--dtype", "--cpu-offload-gb", "--load-format", "--config"),
    # `vllm serve` moves `--model` to the front by itself, and images that start the API server's module want the flag.
    model_flag="--model",
    hub_flag="--model",
    port_flag="--port",
    owned=("--model", "--port"),
    # Without it /load is there and always says 0.
    defaults=(("--enable-server-load-tracking",),),
    # The served name stays vLLM's own: the model as it was given. A name of ours would surprise its clients.
    name_flag="--served-model-name",
    # Without it the gauges stand still, and a busy server looks idle for ever.
    blinding=("--disable-log-stats",),
    stop=StopRule(
        flag="--shutdown-timeout",
        promised_s=0.0,
        margin_s=10.0,
        why="vLLM aborts what is in flight on SIGTERM, unless --shutdown-timeout lets it finish",
    ),
    # 200 also while it is paused or asleep: alive, not ready. Readiness is the warm-up below.
    health="/health",
    in_flight=(
        InFlightProbe(
            path="/metrics", form="prometheus", names=("vllm:num_requests_running", "vllm:num_requests_waiting")
        ),
        # The gauges move when the engine ends a step: seconds after a long prompt came in, and not at all while paused.
        InFlightProbe(
            path="/load",
            form="json",
            field="server_load",
            also=True,
            exact_with="--enable-server-load-tracking",
            # Each of several API servers counts its own requests, and a file of settings may ask for several.
            exact_unless=("--api-server-count", "-asc", "--data-parallel-size", "-dp", "--config"),
        ),
    ),
    # Only offered with VLLM_SERVER_DEV_MODE=1; `abort` (its default) would cut clients. What arrives after `wait` is
    # queued, and from 0.33 on refused with 503.
    pause=HttpCall(path="/pause?mode=wait"),
    resume=HttpCall(path="/resume"),
    # A 200 says that the call was taken. Offered wherever /pause is.
    paused=PausedField(path="/is_paused", field="is_paused"),
    # There without development mode too. /is_sleeping needs it, and is true while it is only paused as well.
    # Never put to sleep or woken: decision 0024.
    asleep=AwakeMetric(path="/metrics", metric="vllm:engine_sleep_state", label="sleep_state", awake="awake"),
    warm=WarmRequest(
        call=HttpCall(path="/v1/completions", body='{"model":"{model}","prompt":"Hi","max_tokens":1}'),
        model_path="/v1/models",
    ),
)

SGLANG = Runtime(
    name="sglang",
    # The image starts nothing by itself.
    program=("python3", "-m", "sglang.launch_server"),
    needs_model=True,
    hub_layout="hub",
    hub_env=_HUB_ENV,
    revision_flag="--revision",
    needs_template=True,
    template_flag="--chat-template",
    no_chat=("--is-embedding",),
    resizes=("--quantization", "--dtype", "--cpu-offload-gb", "--load-format", "--torchao-config"),
    model_flag="--model-path",
    hub_flag="--model-path",
    port_flag="--port",
    owned=("--model-path", "--model", "--port"),
    # It listens on loopback unless told otherwise, and has no /metrics without the second.
    defaults=(("--host", "0.0.0.0"), ("--enable-metrics",)),
    name_flag="--served-model-name",
    stop=StopRule(
        promised_s=90.0,
        margin_s=30.0,
        why="SGLang finishes every request after SIGTERM, without a deadline of its own and looking every 5 s only",
    ),
    health="/health",
    in_flight=(
        InFlightProbe(
            path="/v1/loads?include=core",
            form="json_sum",
            field="loads",
            names=("num_running_reqs", "num_waiting_reqs"),
        ),
        # Before 2026: a bare list, whose first figure holds the second already; zero means zero all the same.
        InFlightProbe(path="/get_load", form="json_sum", names=("num_reqs", "num_waiting_reqs")),
        InFlightProbe(path="/metrics", form="prometheus", names=("sglang:num_running_reqs", "sglang:num_queue_reqs")),
    ),
    # No pause: /pause_generation knows abort, retract and in_place and none of them waits, and a server that is too
    # old to know the mode takes it for abort, which cuts clients.
    warm=WarmRequest(
        call=HttpCall(path="/generate", body='{"text":"Hi","sampling_params":{"max_new_tokens":1}}'),
        # The list of models is no readiness, but it tells whose weights these are.
        model_path="/v1/models",
    ),
)

LLAMACPP = Runtime(
    name="llamacpp",
    needs_model=True,
    hub_layout="llama",
    hub_env=(("LLAMA_CACHE", "{cache}"), ("HF_HUB_CACHE", "{cache}"), ("LLAMA_OFFLINE", "1")),
    # Layers may stay in the memory of the host.
    resizes=(
        *("-ngl", "--gpu-layers", "--n-gpu-layers", "--cpu-moe", "-cmoe", "--n-cpu-moe", "-ncmoe"),
        *("-ot", "--override-tensor", "-fit", "--fit"),
    ),
    hub_has_tags=True,
    model_flag="-m",
    hub_flag="-hf",
    port_flag="--port",
    owned=("-m", "--model", "-hf", "-hfr", "--hf-repo", "--port"),
    # It listens on loopback unless told otherwise, and counts deferred requests only with --metrics.
    defaults=(("--host", "0.0.0.0"), ("--metrics",)),
    health="/health",
    in_flight=(
        InFlightProbe(
            path="/metrics", form="prometheus", names=("llamacpp:requests_processing", "llamacpp:requests_deferred")
        ),
        InFlightProbe(path="/slots", form="json_true", field="is_processing"),
    ),
    warm=WarmRequest(call=HttpCall(path="/completion", body='{"prompt":"Hi","n_predict":1}')),
)

OLLAMA = Runtime(
    name="ollama",
    program=("serve",),
    # The name of a model in its store; the store itself is a volume.
    model_from=("hub",),
    needs_model=True,
    hub_has_tags=True,
    hub_layout="ollama",
    env=(("OLLAMA_HOST", "0.0.0.0:{port}"),),
    health="/api/version",
    # Nothing says how busy it is: /api/ps lists which models are loaded, not who waits for them. And no pause.
    warm=WarmRequest(
        call=HttpCall(
            path="/api/generate",
            body='{"model":"{name}","prompt":"Hi","stream":false,"options":{"num_predict":1}}',
        ),
    ),
)

COMFYUI = Runtime(
    name="comfyui",
    # Checkpoints lie in folders that workflows name; there is not one model.
    model_from=(),
    port_flag="--port",
    owned=("--port",),
    defaults=(("--listen", "0.0.0.0"),),
    # The workflow that would warm it up is the user's own, so being able to name its devices is all there is.
    health="/system_stats",
    in_flight=(
        InFlightProbe(path="/prompt", form="json", field="exec_info.queue_remaining"),
        InFlightProbe(path="/queue", form="json_sum", names=("queue_running", "queue_pending")),
    ),
)

TGI = Runtime(
    name="tgi",
    # In maintenance mode since 2026: what it offers is read, nothing of it is switched.
    needs_model=True,
    hub_layout="hub",
    hub_env=_HUB_ENV,
    revision_flag="--revision",
    needs_template=True,
    template_flag="--tokenizer-config-path",
    resizes=("--quantize", "--dtype"),
    model_flag="--model-id",
    hub_flag="--model-id",
    port_flag="--port",
    owned=("--model-id", "--port", "-p"),
    stop=StopRule(
        flag="--graceful-termination-timeout",
        promised_s=90.0,
        margin_s=10.0,
        why="TGI's launcher lets requests finish after SIGTERM, 90 s unless --graceful-termination-timeout says else",
    ),
    health="/health",
    in_flight=(InFlightProbe(path="/metrics", form="prometheus", names=("tgi_batch_current_size", "tgi_queue_size")),),
    warm=WarmRequest(call=HttpCall(path="/generate", body='{"inputs":"Hi","parameters":{"max_new_tokens":1}}')),
)

GENERIC = Runtime(name="generic", hub_layout="hub", hub_env=_HUB_ENV)
# A program that calls others and is called by nobody: its container says how it is, and what it does is cut.
BOT = Runtime(name="bot", model_from=(), steady_s=5.0)
NONE = Runtime(name="none", hub_layout="hub", hub_env=_HUB_ENV)

RUNTIMES: dict[RuntimeName, Runtime] = {
    runtime.name: runtime for runtime in (VLLM, SGLANG, LLAMACPP, OLLAMA, COMFYUI, TGI, GENERIC, BOT, NONE)
}


def launch_flags(runtime: RuntimeName) -> frozenset[str]:
    """Return the flags recon sets itself from `model` and `port`, in every spelling the server knows."""
    return frozenset(RUNTIMES[runtime].owned)


def sets_flag(word: str, flag: str) -> bool:
    """Say whether an argument sets a flag: the flag itself or `--flag=value`; vLLM takes `_` for `-` as well."""
    name = word.split("=", 1)[0]
    return name == flag or (flag.startswith("--") and name.replace("_", "-") == flag)


def clashing_args(runtime: RuntimeName, args: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of `args` that set again what recon sets from `model` and `port`."""
    return tuple(word for word in args if any(sets_flag(word, flag) for flag in RUNTIMES[runtime].owned))


def blinding_args(runtime: RuntimeName, args: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of `args` with which the server would stop counting its requests."""
    return tuple(word for word in args if any(sets_flag(word, flag) for flag in RUNTIMES[runtime].blinding))


def shortest_stop_s(runtime: RuntimeName, args: tuple[str, ...]) -> float:
    """Return the least `stop.timeout` with which the server can keep what it promises on SIGTERM; 0 for no promise."""
    rule = RUNTIMES[runtime].stop
    if rule is None:
        return 0.0
    promised = rule.promised_s
    value = flag_value(rule.flag, args) if rule.flag else None
    if value is not None and value.isascii() and value.isdigit():
        promised = float(value)
    return promised + rule.margin_s if promised else 0.0


def flag_value(flag: str, args: tuple[str, ...]) -> str | None:
    """Return the word that `args` give to a flag, None when they do not."""
    for place, word in enumerate(args):
        if sets_flag(word, flag):
            return word.split("=", 1)[1] if "=" in word else next(iter(args[place + 1 :]), None)
    return None

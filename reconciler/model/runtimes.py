"""The one table of model servers: how each is launched, probed, paused and warmed up.

Everything here is data about other people's programs, written down once: `render` turns it into arguments and
addresses, `load` asks `clashing_args` which words a person must not repeat. Probes are tried in the order they stand.

Must not: know ports, hosts or units, and hold nothing that a server does not offer by itself.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Frozen
from reconciler.model.desired import HttpCall, RuntimeName


class InFlightProbe(Frozen):
    """Where a server says how busy it is; `form`, `names`, `field` and `also` as in `model.intent.BusyProbe`."""

    path: str
    form: Literal["prometheus", "json", "json_true"]
    names: tuple[str, ...] = ()
    field: str = ""
    also: bool = False


class WarmRequest(Frozen):
    """A generation of one token. `{model}` in the body becomes the id that `model_path` lists first."""

    call: HttpCall
    model_path: str | None = None


class Runtime(Frozen):
    """One kind of server.

    Attributes:
        model_flag: the word before a path to weights.
        hub_flag: the word before the name of a hub repository.
        port_flag: the word before the port.
        owned: every spelling of what the three flags above set; a person must not set them again.
        defaults: words added unless `args` already set their first word.
        name_flag: the word that changes the name a model is served under; else it is the model as it was given.
    """

    name: RuntimeName
    model_flag: str | None = None
    hub_flag: str | None = None
    port_flag: str | None = None
    owned: tuple[str, ...] = ()
    defaults: tuple[tuple[str, ...], ...] = ()
    name_flag: str | None = None
    health: str | None = None
    in_flight: tuple[InFlightProbe, ...] = ()
    pause: HttpCall | None = None
    resume: HttpCall | None = None
    warm: WarmRequest | None = None


VLLM = Runtime(
    name="vllm",
    # `vllm serve` moves `--model` to the front by itself, and images that start the API server's module want the flag.
    model_flag="--model",
    hub_flag="--model",
    port_flag="--port",
    owned=("--model", "--port"),
    # Without it /load is there and always says 0.
    defaults=(("--enable-server-load-tracking",),),
    # The served name stays vLLM's own: the model as it was given. A name of ours would surprise its clients.
    name_flag="--served-model-name",
    health="/health",
    in_flight=(
        InFlightProbe(
            path="/metrics", form="prometheus", names=("vllm:num_requests_running", "vllm:num_requests_waiting")
        ),
        # The gauges move when the engine ends a step: seconds after a long prompt came in, and not at all while paused.
        InFlightProbe(path="/load", form="json", field="server_load", also=True),
    ),
    # Only offered with VLLM_SERVER_DEV_MODE=1; `abort` (its default) would cut clients. What arrives after `wait` is
    # queued, and from 0.33 on refused with 503.
    pause=HttpCall(path="/pause?mode=wait"),
    resume=HttpCall(path="/resume"),
    warm=WarmRequest(
        call=HttpCall(path="/v1/completions", body='{"model":"{model}","prompt":"Hi","max_tokens":1}'),
        model_path="/v1/models",
    ),
)

LLAMACPP = Runtime(
    name="llamacpp",
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

GENERIC = Runtime(name="generic")
NONE = Runtime(name="none")

RUNTIMES: dict[RuntimeName, Runtime] = {runtime.name: runtime for runtime in (VLLM, LLAMACPP, GENERIC, NONE)}


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

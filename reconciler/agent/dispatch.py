"""From a verb to the code that does it, which is imported only when it is asked for.

Must not: do anything itself.
"""

from typing import Any, Dict

from . import wire
from .machine import Machine


def handle(machine: Machine, verb: str, args: Dict[str, Any], ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Do what a request says and return the reply.

    Args:
        machine: the host.
        verb: `observe`, `apply`, `follow`, `execute`, `recover`, `release`, `generation`, `watch` or `clear`.
        args: the verb's own arguments.
        ctx: `digest`, `mode` (installed, streamed or simulated) and `bundle` of the agent that runs.
    """
    wire.check(verb, args)
    if verb == "observe":
        from . import observe

        return observe.observe(machine, args, ctx)
    if verb in ("execute", "recover"):
        from . import executor

        return executor.execute(machine, args["txid"], recover=verb == "recover")
    if verb == "watch":
        from . import watch

        return watch.watch(machine)
    if verb == "clear":
        from . import alerts

        return alerts.clear(machine, str(args.get("host", "HOST")))
    if verb == "release":
        from . import release

        return release.release(machine, args)
    if verb == "generation":
        from . import generations

        return generations.describe(machine, args.get("number"), str(args.get("host", "HOST")))
    from . import launch

    if verb == "apply":
        return launch.apply(machine, args, ctx)
    return launch.follow(machine, args)

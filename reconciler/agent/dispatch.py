"""From a verb to the code that does it. What changes a host is imported only when it is asked for.

Must not: do anything itself.
"""

from typing import Any, Dict

from . import observe, wire
from .machine import Machine


def handle(machine: Machine, verb: str, args: Dict[str, Any], ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Do what a request says and return the reply.

    Args:
        machine: the host.
        verb: `observe`, `apply`, `follow`, `execute`, `recover` or `release`.
        args: the verb's own arguments.
        ctx: `digest`, `mode` (installed, streamed or simulated) and `bundle` of the agent that runs.
    """
    wire.check(verb, args)
    if verb == "observe":
        return observe.observe(machine, args, ctx)
    if verb in ("execute", "recover"):
        from . import executor

        return executor.execute(machine, args["txid"], recover=verb == "recover")
    if verb == "release":
        from . import release

        return release.release(machine, args)
    from . import launch

    if verb == "apply":
        return launch.apply(machine, args, ctx)
    return launch.follow(machine, args)

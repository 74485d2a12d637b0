"""From a verb to the code that does it, which is imported only when it is asked for.

Must not: do anything itself.
"""

from typing import Any, Callable, Dict

from . import wire
from .machine import Machine

Args = Dict[str, Any]
Handler = Callable[[Machine, Args, Args], Args]


def handle(machine: Machine, verb: str, args: Args, ctx: Args) -> Args:
    """Do what a request says and return the reply.

    Args:
        machine: the host.
        verb: one of `wire.VERBS`.
        args: the verb's own arguments.
        ctx: `digest`, `mode` (installed, streamed or simulated) and `bundle` of the agent that runs.
    """
    wire.check(verb, args)
    return HANDLERS[verb](machine, args, ctx)


def _observe(machine: Machine, args: Args, ctx: Args) -> Args:
    from . import observe

    return observe.observe(machine, args, ctx)


def _apply(machine: Machine, args: Args, ctx: Args) -> Args:
    from . import launch

    return launch.apply(machine, args, ctx)


def _follow(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import launch

    return launch.follow(machine, args)


def _execute(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import executor

    return executor.execute(machine, args["txid"])


def _recover(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import executor

    return executor.execute(machine, args["txid"], recover=True)


def _release(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import release

    return release.release(machine, args)


def _generation(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import generations

    host, is_committed = str(args.get("host", "HOST")), args.get("committed") is True
    return generations.describe(machine, args.get("number"), host, is_committed=is_committed)


def _watch(machine: Machine, _args: Args, _ctx: Args) -> Args:
    from . import watch

    return watch.watch(machine)


def _clear(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import alerts

    return alerts.clear(machine, str(args.get("host", "HOST")))


def _schedule(machine: Machine, _args: Args, ctx: Args) -> Args:
    from . import schedule

    return schedule.schedule(machine, ctx)


def _registry(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import registry

    return registry.handle(machine, args)


def _lock(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import lock_deeds

    return lock_deeds.handle(machine, args)


def _hold(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import holds

    return holds.handle(machine, args)


def _down(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import down

    return down.down(machine, args)


def _up(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import down

    return down.up(machine, args)


def _reap(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import reap

    return reap.reap(machine, args)


def _tend(machine: Machine, _args: Args, _ctx: Args) -> Args:
    from . import guardrails, tend

    return tend.tend(machine, lambda host, spec: guardrails.told(guardrails.judge(host, spec)))


def _run(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import job

    return job.run(machine, args)


def _job(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import job

    return job.follow(machine, args)


def _logs(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import unit_log

    return unit_log.logs(machine, args)


def _deliver(machine: Machine, _args: Args, _ctx: Args) -> Args:
    from . import deliver

    return deliver.deliver(machine)


def _events_test(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import deliver

    return deliver.try_out(machine, str(args.get("owner", "")))


def _history(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import history_told

    return history_told.tell(machine, args)


def _survey(machine: Machine, _args: Args, ctx: Args) -> Args:
    from . import survey

    return survey.survey(machine, ctx)


def _enroll(machine: Machine, args: Args, ctx: Args) -> Args:
    from . import enroll

    return enroll.enroll(machine, args, ctx)


def _strangers(machine: Machine, args: Args, _ctx: Args) -> Args:
    from . import strangers

    return strangers.strangers(machine, args)


HANDLERS: Dict[str, Handler] = {
    "observe": _observe,
    "apply": _apply,
    "follow": _follow,
    "execute": _execute,
    "recover": _recover,
    "release": _release,
    "generation": _generation,
    "watch": _watch,
    "clear": _clear,
    "schedule": _schedule,
    "registry": _registry,
    "lock": _lock,
    "hold": _hold,
    "down": _down,
    "up": _up,
    "reap": _reap,
    "tend": _tend,
    "run": _run,
    "job": _job,
    "logs": _logs,
    "deliver": _deliver,
    "events_test": _events_test,
    "history": _history,
    "survey": _survey,
    "enroll": _enroll,
    "strangers": _strangers,
}

"""What a plan says about the health of what runs and of what others run: slow is told apart from dead.

Pure. Must not: refuse anything; health moves by itself, and no plan depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import live
from reconciler.model.observed import Health, Known
from reconciler.model.subject import Subject


def health_warnings(subject: Subject) -> Iterator[str]:
    """Yield a line for everything that runs and does not serve as it should."""
    for name, fact in sorted(subject.state.health.items()):
        if isinstance(fact, Known) and subject.is_up(name):
            yield from _of_member(name, fact.value, subject)
    for shared in subject.state.shared:
        if shared.active != "active":
            yield f"shared service {shared.unit} is {shared.active or shared.load}; recon never touches it"
        elif isinstance(shared.health, Known) and shared.health.value.slow:
            yield f"shared service {shared.unit} is slow: {shared.health.value.detail}"
        elif isinstance(shared.health, Known) and not shared.health.value.ok:
            yield f"shared service {shared.unit} is not healthy: {shared.health.value.detail}"


def model_warnings(subject: Subject) -> Iterator[str]:
    """Yield a line for everything that runs and could not be started again, for want of its model."""
    models = subject.state.models
    for fault in models.value if isinstance(models, Known) else ():
        if subject.is_up(fault.unit):
            yield f"{fault.unit} runs and could not start again: [{fault.code}] {fault.reason}"


def _of_member(name: str, health: Health, subject: Subject) -> Iterator[str]:
    unit = subject.units[name]
    if health.slow:
        yield f"{name} is slow: {health.detail}; a busy GPU looks the same as a stuck one"
    elif health.asleep:
        yield f"{name} runs and is {health.detail}: it serves nobody, and recon does not wake it"
    elif not health.ok:
        how = f"{live.crashes(unit)} and" if unit.restarts >= live.CRASHES else "runs but"
        yield f"{name} {how} is not healthy: {health.detail}"

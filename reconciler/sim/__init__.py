"""A simulated machine behind the agent's own seam. Must not: be imported by anything that reaches real hosts."""

from reconciler.sim.fleet import SimFleet

__all__ = ["SimFleet"]

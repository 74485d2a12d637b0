"""From a fleet to the bytes of every file. Must not: look at hosts, know a clock, write files."""

from reconciler.render.host import Memo, render_fleet, render_host, render_hosts

__all__ = ["Memo", "render_fleet", "render_host", "render_hosts"]

"""Checks what a coven says about its hooks: one way to call, a plain program, an end, and a way back that goes on.

Must not: know hosts; whether a program is there and who may change it is checked on the host, before anything moves.
"""

from __future__ import annotations

from typing import get_args

from reconciler.load.report import Report
from reconciler.load.services import too_long
from reconciler.load.values import Finding, check_health_url, check_path
from reconciler.model.desired import Hook, HookName, Hooks

MAX_HOOK_S = 3600.0


def check_hooks(hooks: Hooks, report: Report) -> None:
    """Check every hook that is there."""
    for name in get_args(HookName):
        hook = getattr(hooks, name)
        if hook is not None:
            _check(name, hook, report)


def _check(name: HookName, hook: Hook, report: Report) -> None:
    path = ("hooks", name)
    if bool(hook.argv) == (hook.http is not None):
        detail = "both are given" if hook.argv else "neither argv nor http is given"
        fix = "write 'argv: [/usr/local/bin/program, word]' or 'http: {url: http://…}'"
        report.at_key(path, Finding("REC2044", detail, fix))
    if hook.argv:
        report.at_value((*path, "argv", 0), check_path(hook.argv[0]))
    if hook.http is not None:
        found = check_health_url(hook.http.url)
        report.at_value((*path, "http", "url"), found and Finding("REC2044", found.detail, found.fix))
    report.at_value((*path, "timeout"), too_long(hook.timeout, MAX_HOOK_S))
    if name == "on_rollback" and hook.on_timeout == "abort":
        detail = "nothing stops a way back: the coven that serves comes first"
        report.at_value((*path, "on_timeout"), Finding("REC2044", detail, "write 'on_timeout: continue'"))

"""Checks where a model comes from: a path on the host, or the hub's cache there.

Must not: look at a host; whether the files are there is seen there, before anything starts.
"""

from __future__ import annotations

import re

from reconciler.load.codes import shown
from reconciler.load.report import Report
from reconciler.load.values import Finding, check_host_folder, check_hub
from reconciler.model.desired import ModelRef, Policy, Service
from reconciler.model.runtimes import DEFAULT_CACHE, RUNTIMES

Path = tuple[str | int, ...]

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_-]+)*")
_MAX_REVISION = 100


def check_source(service: Service, path: Path, policy: Policy, report: Report) -> None:
    """Check the one source that a model has; `path` is where it stands."""
    model = service.model
    if model is None:
        return
    if model.path is not None:
        report.at_value((*path, "path"), check_host_folder(model.path, policy.allow_mounts))
        for key in ("revision", "cache"):
            if getattr(model, key) is not None:
                detail = f"{key!r} belongs to a hub model, and this one is a path"
                report.at_key((*path, key), Finding("REC2052", detail, "remove it, or write 'hub' instead of 'path'"))
    elif model.hub is not None:
        _check_hub(service, model, path, policy, report)


def told_by_model(service: Service) -> frozenset[str]:
    """Return the variables that recon sets for a hub model."""
    is_hub = service.model is not None and service.model.hub is not None
    return frozenset(name for name, _ in RUNTIMES[service.runtime].hub_env) if is_hub else frozenset()


def _check_hub(service: Service, model: ModelRef, path: Path, policy: Policy, report: Report) -> None:
    runtime = RUNTIMES[service.runtime]
    report.at_value((*path, "hub"), check_hub(model.hub or "", has_tags=runtime.hub_has_tags))
    if model.revision is not None and runtime.revision_flag is None:
        detail = f"runtime {service.runtime} cannot be told a revision"
        fix = "write it as a tag: 'hub: org/name:tag'" if runtime.hub_has_tags else "remove it"
        report.at_key((*path, "revision"), Finding("REC2052", detail, fix))
    elif model.revision is not None:
        report.at_value((*path, "revision"), _check_revision(model.revision))
    if runtime.hub_env:
        where = (*path, "cache") if model.cache is not None else (*path, "hub")
        report.at_value(where, check_host_folder(model.cache or DEFAULT_CACHE, policy.allow_mounts))
    elif model.cache is not None:
        detail = f"runtime {service.runtime} has its models in a volume"
        report.at_key((*path, "cache"), Finding("REC2052", detail, "remove it, and mount the store under 'volumes'"))


def _check_revision(revision: str) -> Finding | None:
    """Judge the name of a revision, which becomes part of a path in the cache."""
    if len(revision) <= _MAX_REVISION and _REVISION.fullmatch(revision):
        return None
    detail = f"{shown(revision)} is neither a commit nor the name of a branch or tag"
    return Finding("REC2053", detail, "write the 40 digits of a commit, or a name such as main")

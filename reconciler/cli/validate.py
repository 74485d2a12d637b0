"""`recon validate`: is the desired state good? Reads files only."""

from __future__ import annotations

from reconciler.cli import common


def validate(output: common.OutputOption = common.Output.text) -> None:
    """Check every file of the desired state and show all problems at once. Touches no host.

    Examples: recon validate · recon -C ~/studio validate --output json
    """
    from reconciler.workflow import open_repository, render_hosts, select_hosts

    repository = open_repository(common.SETTINGS.root)
    fleet = repository.fleet
    files = sum(len(host.files) for host in render_hosts(repository, select_hosts(fleet, ())).values())
    if output is common.Output.json:
        import json

        common.say(
            json.dumps(
                {
                    "format_version": "1.0",
                    "command": "validate",
                    "status": "ok",
                    "exit_code": 0,
                    "hosts": sorted(fleet.hosts),
                    "covens": sorted(fleet.covens),
                    "files": files,
                },
                indent=2,
            )
        )
        return
    good = common.paint()("Valid.", "green", "bold")
    common.say(f"{good} {len(fleet.hosts)} hosts, {len(fleet.covens)} covens, {files} unit files to render.")

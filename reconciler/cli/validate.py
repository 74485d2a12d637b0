"""`recon validate`: is the desired state good? Reads files only."""

from __future__ import annotations

from reconciler.cli import common


def validate(output: common.OutputOption = common.Output.text) -> None:
    """Check every file of the desired state and show all problems at once. Touches no host.

    Examples: recon validate · recon -C ~/studio validate --output json
    """
    # Not through the workflow: an editor or a hook runs this at every save, and nothing is observed or planned.
    from reconciler.load.fleet import load_fleet, load_templates
    from reconciler.render import render_fleet

    fleet = load_fleet(common.SETTINGS.root)
    rendered = render_fleet(fleet, load_templates(common.SETTINGS.root))
    files = sum(len(host.files) for host in rendered.values())
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
            ),
            whole=True,
        )
        return
    good = common.paint()("Valid.", "green", "bold")
    common.say(f"{good} {len(fleet.hosts)} hosts, {len(fleet.covens)} covens, {files} unit files to render.")

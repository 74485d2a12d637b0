"""Stories as folders: what git says and what hosts said, and the plan that follows from it.

A folder with `desired/` and `observed/HOST.json` (an observation as `recon status -o json` shows it; `null` for a host
that does not answer) is a test. `pytest tests/cases --snapshot-update` writes the plan of a new one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from reconciler.model.observed import HostState, Observation, Unreachable
from reconciler.views.paint import Paint
from reconciler.views.plan_markdown import plan_markdown
from reconciler.views.plan_text import plan_lines
from reconciler.workflow.planning import plan_fleet, render_hosts
from reconciler.workflow.repository import open_repository, select_hosts

STORIES = sorted(path.parent for path in Path(__file__).parent.glob("*/desired"))


class TextFile(SingleFileSnapshotExtension):
    _write_mode = WriteMode.TEXT
    file_extension = "txt"


@pytest.fixture
def golden(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(TextFile)


def observed(path: Path) -> Observation:
    answer = json.loads(path.read_text(encoding="utf-8"))
    if answer is None:
        return Unreachable(code="REC6006", reason="no answer in 10 s", elapsed_s=10.0)
    return HostState.model_validate(answer)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: str(story.name))
def test_the_plan_of_a_story(story: Path, golden: SnapshotAssertion) -> None:
    repository = open_repository(story)
    hosts = select_hosts(repository.fleet, ())
    answers = {host.name: observed(story / "observed" / f"{host.name}.json") for host in hosts}
    plan = plan_fleet(repository, hosts, render_hosts(repository, hosts), answers, now=0.0)
    nowhere = plan.model_copy(update={"source": plan.source.model_copy(update={"commit": None, "dirty": False})})

    shown = "\n".join(plan_lines(nowhere, Paint(on=False), diffs=True))
    assert shown + "\n" == golden(name="text")
    assert plan_markdown(nowhere) == golden(name="markdown")

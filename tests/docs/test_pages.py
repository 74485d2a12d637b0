"""What the pages say is held against the code: links, command lines, options, exit codes, fields, examples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from reconciler.errors import ExitCode
from reconciler.load.fleet import load_fleet
from reconciler.load.scaffold import scaffold
from reconciler.model import plan
from reconciler.model.desired import Platform
from reconciler.model.outcome import STEPS
from tests.docs import cli_page, follow

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
PAGES = tuple(
    sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md")), CONTRIBUTING])
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(recon [a-z-][^`…]*)`")
SHELL_TAIL = re.compile(r"\s(?:2?>|\||&&|;|#).*")
EXAMPLE = re.compile(r"^ *```yaml\n( *# yaml-language-server: .*?schema/(\w+)\.schema\.json\n.*?)^ *```$", re.M | re.S)
ROOT_OPTIONS = {"-C", "--chdir", "--color"}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def slugs(page: Path) -> set[str]:
    """Return the anchors that a forge makes of headings."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in slugs(target)):
            broken.append(link)

    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        links = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links if not link.startswith("http")}
        waiting += [target for target in targets - reached if target.suffix == ".md" and target.exists()]

    assert [named(page) for page in PAGES if page not in reached] == []


def command_lines(page: Path) -> Iterator[str]:
    """Yield every `recon …` of a page: lines of code blocks, and code within a sentence."""
    text = page.read_text(encoding="utf-8")
    for block in FENCE.findall(text):
        for line in block.splitlines():
            bare = re.sub(r"^(?:- run: )?(?:\$ )?(?:sudo )?(?:\.venv/bin/)?", "", line.strip())
            if bare.startswith("recon ") and not bare.startswith("recon ["):
                yield SHELL_TAIL.sub("", bare)
    for span in INLINE.findall(FENCE.sub("", text)):
        yield SHELL_TAIL.sub("", span)


def fault_in(line: str) -> str | None:
    """Say what is wrong with a command line; None when the program would understand it."""
    words = shlex.split(line)[1:]
    while words and words[0] in ROOT_OPTIONS:
        words = words[2:]
    command, path = cli_page.command_line(), ["recon"]
    while getattr(command, "commands", None):
        if not words:
            return None
        name = words.pop(0)
        if name not in command.commands:
            return f"{' '.join(path)} has no command {name}"
        command, path = command.commands[name], [*path, name]
    if "--help" in words or not words:
        return None
    try:
        command.make_context(path[-1], words)
    except Exception as error:  # whatever the parser says is wrong
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != cli_page.PAGE.name], ids=named)
def test_every_command_line_is_one_that_the_program_understands(page: Path) -> None:
    faults = {line: fault for line in command_lines(page) if (fault := fault_in(line))}

    assert faults == {}


def test_a_command_line_with_an_unknown_option_would_be_found() -> None:
    assert fault_in("recon plan --detailed-exitcode") is None
    assert fault_in("recon plan --no-such-option") is not None
    assert fault_in("recon paln") == "recon has no command paln"


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    """When it is not: .venv/bin/python -m tests.docs.cli_page."""
    assert (ROOT / cli_page.PAGE).read_text(encoding="utf-8") == cli_page.page()


def test_the_page_of_exit_codes_has_every_code_once() -> None:
    text = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", text, re.MULTILINE)

    assert [(int(code), name.replace(" ", "_").upper()) for code, name in rows] == [(c.value, c.name) for c in ExitCode]


def documented_fields(title: str) -> list[str]:
    text = (DOCS / "reference" / "plan-document.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"no section {title}"
    cells = re.findall(r"^\| (`.+?) \| ", section[1], re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize(
    "model",
    [
        plan.Plan,
        plan.HostPlan,
        plan.Transition,
        plan.PlanStep,
        plan.Budget,
        plan.PlannedChange,
        plan.Refusal,
        plan.Order,
        plan.FileRef,
        plan.Summary,
    ],
)
def test_the_page_of_the_plan_document_has_every_field(model: type[BaseModel]) -> None:
    assert sorted(documented_fields(model.__name__)) == sorted(model.model_fields)


def test_the_explanation_of_a_transition_explains_every_step() -> None:
    text = (DOCS / "explanation" / "transition.md").read_text(encoding="utf-8")
    glossary = (DOCS / "reference" / "glossary.md").read_text(encoding="utf-8")

    assert [step for step in STEPS if step not in text] == []
    assert [step for step in STEPS if step not in glossary] == []


def test_the_glossary_is_in_order_and_says_each_word_once() -> None:
    text = (DOCS / "reference" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)

    assert words == sorted(set(words))


def test_decisions_are_numbered_listed_and_have_their_four_parts() -> None:
    folder = DOCS / "decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text(encoding="utf-8")

    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    assert [page.name for page in pages if f"({page.name})" not in index] == []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {page.name[:4]} ")
        parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert parts == ["Context", "Decision", "Alternatives", "Consequences"], page.name


def test_the_readme_names_the_versions_the_schema_asks_for() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    least = Platform()

    assert f"podman ≥ {least.podman}, systemd ≥ {least.systemd}" in text


@pytest.mark.parametrize("page", sorted((DOCS / "how-to").glob("*.md")), ids=named)
def test_every_yaml_file_shown_is_valid(page: Path, tmp_path: Path) -> None:
    scaffold(tmp_path / "studio", simulated=False)
    shown = EXAMPLE.findall(page.read_text(encoding="utf-8"))
    for number, (text, kind) in enumerate(shown):
        indent = len(text) - len(text.lstrip(" "))
        lines = [line[indent:] for line in text.splitlines(keepends=True)]
        (tmp_path / "studio" / "desired" / f"{kind}s" / f"shown-{number}.yaml").write_text("".join(lines))
    fleet = load_fleet(tmp_path / "studio")

    assert len(fleet.hosts) + len(fleet.covens) == 6 + len(shown)


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_a_page_that_is_followed_prints_what_it_says(name: str, tmp_path: Path) -> None:
    """When it does not: .venv/bin/python -m tests.docs.follow PAGE, and look at what git says has changed."""
    walk = follow.fresh_walk(tmp_path)
    page = (ROOT / name).read_text(encoding="utf-8")
    for block in follow.blocks_of(page):
        for step in follow.steps_of(block):
            printed = walk.run(step.command)
            assert follow.is_as_printed(step.printed, printed), "\n".join([f"$ {step.command}", *printed])


def test_every_code_a_page_names_is_explained() -> None:
    errors = DOCS / "reference" / "errors.md"
    known = set(re.findall(r"REC\d{4}", errors.read_text(encoding="utf-8")))
    unknown = {named(page): set(re.findall(r"REC\d{4}", page.read_text(encoding="utf-8"))) - known for page in PAGES}

    assert {page: codes for page, codes in unknown.items() if codes} == {}

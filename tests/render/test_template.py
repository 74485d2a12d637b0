"""A template can lay out, and nothing it tries beyond that hangs, swells or escapes."""

from pathlib import Path

import pytest

from reconciler.errors import DesiredStateError, Where
from reconciler.render import render_host
from reconciler.render.defaults import BUILTIN, GATE, SERVICE
from reconciler.render.template import MAX_OUTPUT, render
from tests.render.fleets import a_fleet, a_host

VALUES = {"name": "recon", "units": ("a", "b"), "keys": (("A", "1"), ("B", "2")), "empty": "", "none": None}


def test_a_template_lays_values_out() -> None:
    source = (
        "[Unit]\n{# a remark #}\n{% for key, value in keys %}\n{{ key }}={{ value }}{{ ',' if not loop.last }}\n"
        "{% endfor %}\n{% if empty %}\nNo=1\n{% else %}\nAll={{ units | join(' ') }} {{ units | length + 1 }}\n"
        "{% endif %}\n{% for n in range(2) %}\n{{ name }}{{ n }}\n{% endfor %}\n"
    )

    assert render("x.j2", source, VALUES) == "[Unit]\nA=1,\nB=2\nAll=a b 3\nrecon0\nrecon1\n"


@pytest.mark.parametrize(
    ("code", "line", "source"),
    [
        ("REC4001", 2, "[Unit]\n{{ nothing }}\n"),
        ("REC4001", 3, "[Unit]\n\n{{ name.nothing }}\n"),
        ("REC4001", 2, "[Unit]\n{% if nothing %}x{% endif %}\n"),
        ("REC4002", 2, "[Unit]\n{{ name.__class__ }}\n"),
        ("REC4002", 2, "[Unit]\n{{ name.upper() }}\n"),
        ("REC4002", 2, "[Unit]\n{{ ''.join(units) }}\n"),
        ("REC4002", 2, "[Unit]\n{{ '{0.__class__}'.format(name) }}\n"),
        ("REC4002", 2, "[Unit]\n{{ '%999999999s' % name }}\n"),
        ("REC4002", 2, "[Unit]\n{{ 9 ** 9 ** 9 }}\n"),
        ("REC4002", 2, "[Unit]\n{% set x = name %}\n"),
        ("REC4002", 2, "[Unit]\n{% macro x() %}{% endmacro %}\n"),
        ("REC4002", 2, "[Unit]\n{{ name ~ name }}\n"),
        ("REC4002", 2, "[Unit]\n{% filter upper %}x{% endfilter %}\n"),
        ("REC4002", 2, "[Unit]\n{% for a in units recursive %}{{ loop(units) }}{% endfor %}\n"),
        ("REC4003", 2, "[Unit]\n{{ 'a' * 50000000 }}\n"),
        ("REC4003", 2, "[Unit]\n{{ 50000000 * 'a' }}\n"),
        ("REC4003", 2, "[Unit]\n{{ range(4000) | join('a' * 1000) }}\n"),
        ("REC4003", 2, "[Unit]\n{{ 'a' * 200000 + 'b' * 200000 }}\n"),
        ("REC4003", 0, "[Unit]\n" + "#" * 70000),
        ("REC4004", 2, "[Unit]\n{% for a in range(100000000) %}{% endfor %}\n"),
        ("REC4004", 3, "[Unit]\n{% for a in range(4000) %}\n{% for b in range(4000) %}{% endfor %}{% endfor %}\n"),
        ("REC4005", 2, "[Unit]\n{% include 'x' %}\n"),
        ("REC4005", 2, "[Unit]\n{% import 'x' as y %}\n"),
        ("REC4005", 2, "[Unit]\n{% from 'x' import y %}\n"),
        ("REC4005", 1, "{% extends 'x' %}\n"),
        ("REC4006", 2, "[Unit]\n{% if name %}\n"),
        ("REC4006", 2, "[Unit]\n{{ name | attr('x') }}\n"),
        ("REC4006", 2, "[Unit]\n{{ units | random }}\n"),
        ("REC4006", 2, "[Unit]\n{{ 1 / 0 }}\n"),
        ("REC4006", 2, "[Unit]\n{{ name + 1 }}\n"),
        ("REC4006", 0, "[Unit]\n{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}\n"),
        ("REC4008", 1, ""),
        ("REC4008", 1, "# Managed by somebody else\n[Unit]\n"),
        ("REC3007", 0, "[Unit]\nDescription={{ 'a' * 9000 }}\n"),
    ],
)
def test_what_a_template_must_not_do_is_refused_with_its_place(code: str, line: int, source: str) -> None:
    with pytest.raises(DesiredStateError) as caught:
        render("x.j2", source, VALUES)

    (problem,) = caught.value.problems
    assert problem.code == code
    where = problem.where
    assert where is not None
    assert (where.file, where.line) == ("templates/x.j2", line)
    assert problem.fix


def test_a_syntax_error_names_the_line() -> None:
    with pytest.raises(DesiredStateError) as caught:
        render("x.j2", "[Unit]\n\n{{ name | nosuchfilter }}\n", VALUES)

    assert caught.value.problems[0].where == Where("templates/x.j2", 3)


@pytest.mark.parametrize("word", ["lipsum", "cycler", "joiner", "namespace", "dict", "self", "config", "__builtins__"])
def test_nothing_is_in_reach_but_the_values(word: str) -> None:
    with pytest.raises(DesiredStateError) as caught:
        render("x.j2", f"[Unit]\n{{{{ {word} | length }}}}\n", VALUES)

    assert caught.value.problems[0].code in {"REC4001", "REC4002", "REC4006"}


def test_a_template_that_prints_the_objects_around_it_is_caught() -> None:
    class Shifting:
        count = 0

        def __str__(self) -> str:
            self.count += 1
            return str(self.count)

    with pytest.raises(DesiredStateError) as caught:
        render("x.j2", "[Unit]\n{{ value }}\n", {"value": Shifting()})

    assert [problem.code for problem in caught.value.problems] == ["REC4007"]


def test_output_just_below_the_bound_is_fine() -> None:
    lines = MAX_OUTPUT // 128 - 1
    source = "[Unit]\n{% for n in range(" + str(lines) + ") %}\n" + "x" * 127 + "\n{% endfor %}\n"

    assert len(render("x.j2", source, {})) == 7 + lines * 128


def test_a_template_of_the_repository_takes_the_place_of_the_one_that_comes_along() -> None:
    own = {SERVICE: BUILTIN[SERVICE].replace("OOMPolicy=stop\n", "OOMPolicy=stop\nNice=5\n")}

    bodies = {file.name: file.body for file in render_host(a_fleet(), a_host(), own).files}

    assert "Nice=5\n" in bodies["recon-vision-flux.container"]
    assert "Nice=5\n" not in bodies["recon-coven-vision.target"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (SERVICE, "Requisite={{ gate }}\n"),
        (SERVICE, "PartOf={{ gate }}\n"),
        (SERVICE, "After={{ gate }}\n"),
        (SERVICE, "Pull=never\n"),
        (SERVICE, "Environment=RECON_CONFIG_HASH={{ config_hash }}\n"),
        (SERVICE, "Label={{ label }}\n"),
        (SERVICE, "Exec={{ exec }}\n"),
        (GATE, "Conflicts={{ unit }}\n"),
        (GATE, "RefuseManualStart=yes\n"),
    ],
)
def test_a_template_cannot_leave_out_what_exclusivity_rests_on(name: str, line: str) -> None:
    assert line in BUILTIN[name]

    with pytest.raises(DesiredStateError) as caught:
        render_host(a_fleet(), a_host(), {name: BUILTIN[name].replace(line, "")})

    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("REC4009", Where(f"templates/{name}"))


def test_a_template_nothing_renders_is_refused() -> None:
    with pytest.raises(DesiredStateError) as caught:
        render_host(a_fleet(), a_host(), {"member.j2": "x"})

    assert [(problem.code, problem.where) for problem in caught.value.problems] == [
        ("REC4010", Where("templates/member.j2"))
    ]


def test_the_templates_of_this_repository_are_those_that_come_with_the_program() -> None:
    folder = Path(__file__).parents[2] / "templates"

    assert {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.j2")} == dict(BUILTIN)

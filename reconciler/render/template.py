"""Templates that can only lay out: a small, bounded part of Jinja in its sandbox.

A template is part of the repository under review, yet it must not be able to hang or swell a plan that is made for a
pull request. So there are no calls but `range`, no assignments, macros or includes, few filters, and every loop,
string and output has an upper bound. Values come in already encoded.

    REC4001  a variable that does not exist     REC4004  loops without end
    REC4002  more than laying out               REC4005  include, import, extends
    REC4003  too much text                      REC4006  a syntax error
    REC4007  two renderings differ              REC4008  the output begins with a comment, or is empty
    REC3007  a line longer than 8 KiB

Must not: know units, read files, or change a value.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reconciler.errors import DesiredStateError, Problem, Where

MAX_OUTPUT = 256 * 1024
MAX_SOURCE = 64 * 1024
MAX_LINE = 8 * 1024
MAX_ITERATIONS = 4096
_BOUNDED = "recon_bounded"

_INCLUDES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)
_REFUSED = (
    nodes.Assign,
    nodes.AssignBlock,
    nodes.CallBlock,
    nodes.Concat,
    nodes.FilterBlock,
    nodes.Macro,
    nodes.ScopedEvalContextModifier,
)
_FILTERS = ("default", "first", "last", "length", "list", "lower", "sort", "trim", "unique", "upper")
_TESTS = ("defined", "undefined", "none", "string", "number", "eq", "ne", "in", "boolean", "sequence", "mapping")


class _TooMuchTextError(Exception):
    """A string grew past the size of a whole file."""


class _EndlessError(Exception):
    """The loops of one rendering together went round too often."""


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja without everything a layout does not need."""

    intercepted_binops = frozenset({"*", "+", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            loader=None,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self.globals = {"range": _short_range}
        self.filters = {name: FILTERS[name] for name in _FILTERS} | {"join": _join, _BOUNDED: _bounded}
        self.tests = {name: self.tests[name] for name in _TESTS}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002
        return isinstance(obj, LoopContext) and not attr.startswith("_")

    def is_safe_callable(self, obj: Any) -> bool:
        return obj is _short_range

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002
        if operator in {"**", "%"}:
            raise SecurityError(f"the operator {operator} is not offered here")
        if (_size(left) + _size(right) if operator == "+" else _size(left) * _size(right)) > MAX_OUTPUT:
            raise _TooMuchTextError
        return self.binop_table[operator](left, right)


def render(name: str, source: str, values: Mapping[str, Any]) -> str:
    """Lay values out as a template says; DesiredStateError names the template and the line."""
    template = _compiled(name, source)
    first = _generate(template, name, values)
    if _generate(template, name, values) != first:
        raise _problem(
            "REC4007",
            "a template renders differently each time",
            name,
            0,
            "the same values gave two texts, so what was reviewed would not be what is applied",
            "print values only, never the objects around them",
        )
    _check_shape(name, first)
    return first


@functools.lru_cache(maxsize=64)
def _compiled(name: str, source: str) -> Template:
    environment = _Environment()
    if len(source) > MAX_SOURCE:
        raise _problem("REC4003", "a template is too long", name, 0, f"more than {MAX_SOURCE} characters", "shorten it")
    try:
        tree = environment.parse(source, name, f"templates/{name}")
        _check_nodes(name, tree)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, _BOUNDED, [], [], None, None, lineno=loop.lineno)
        code = environment.compile(tree, name, f"templates/{name}")
        return Template.from_code(environment, code, dict(environment.globals))
    except TemplateSyntaxError as exc:
        raise _problem(
            "REC4006", "a template does not parse", name, exc.lineno, exc.message or "syntax error", "correct that line"
        ) from exc
    except RecursionError as exc:
        raise _problem("REC4006", "a template does not parse", name, 0, "nested too deeply", "write it flat") from exc


def _check_nodes(name: str, tree: nodes.Template) -> None:
    for found in tree.find_all(_INCLUDES):
        raise _problem(
            "REC4005",
            "a template draws in another one",
            name,
            found.lineno,
            f"`{type(found).__name__.lower()}` is not offered: a template is reviewed as one file",
            "copy the lines into this template",
        )
    for refused in tree.find_all(_REFUSED):
        raise _forbidden(name, refused.lineno, f"`{type(refused).__name__.lower()}` is not offered here")
    for call in tree.find_all(nodes.Call):
        if not (isinstance(call.node, nodes.Name) and call.node.name == "range"):
            raise _forbidden(name, call.lineno, "nothing but range() can be called")


def _generate(template: Template, name: str, values: Mapping[str, Any]) -> str:
    parts: list[str] = []
    size = 0
    try:
        for part in template.generate({**values, _BOUNDED: [MAX_ITERATIONS]}):
            size += len(part)
            if size > MAX_OUTPUT:
                raise _TooMuchTextError
            parts.append(part)
    except UndefinedError as exc:
        raise _problem(
            "REC4001",
            "a template uses a variable that does not exist",
            name,
            _line_of(exc, name),
            exc.message or "undefined",
            f"use one of {', '.join(sorted(values))}",
        ) from exc
    except SecurityError as exc:
        raise _forbidden(name, _line_of(exc, name), exc.message or str(exc)) from exc
    except _TooMuchTextError as exc:
        raise _problem(
            "REC4003",
            "a template makes too much text",
            name,
            _line_of(exc, name),
            f"more than {MAX_OUTPUT // 1024} KiB",
            "a unit file is a page, not a book: remove the repetition",
        ) from exc
    except (_EndlessError, OverflowError) as exc:
        raise _problem(
            "REC4004",
            "a template loops for too long",
            name,
            _line_of(exc, name),
            f"its loops went round more than {MAX_ITERATIONS} times",
            "loop over the values that are given, once",
        ) from exc
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as exc:
        raise _problem(
            "REC4006", "a template cannot be rendered", name, _line_of(exc, name), str(exc), "correct that line"
        ) from exc
    return "".join(parts)


def _check_shape(name: str, text: str) -> None:
    if not text.strip() or text.startswith("#"):
        raise _problem(
            "REC4008",
            "a template's output does not begin with a section",
            name,
            1,
            "leading comment lines would be taken for the header that says whose file it is",
            "begin with [Unit], and write remarks as {# … #}",
        )
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line.encode()) > MAX_LINE:
            raise _problem(
                "REC3007",
                "a line of a unit file is too long",
                name,
                0,
                f"line {number} of the output, {line[:60]}…, has more than {MAX_LINE} bytes",
                "move long values into a file that is mounted",
            )


def _short_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_ITERATIONS:
        raise OverflowError
    return numbers


@pass_context
def _bounded(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    """Pass items on while the one budget of this rendering lasts; every loop of a template is led through here."""
    budget: list[int] = context[_BOUNDED]
    for item in items:
        budget[0] -= 1
        if budget[0] < 0:
            raise _EndlessError
        yield item


def _join(items: Iterable[Any], between: str = "") -> str:
    parts = [str(item) for item in items]
    if sum(map(len, parts)) + len(between) * len(parts) > MAX_OUTPUT:
        raise _TooMuchTextError
    return between.join(parts)


def _size(value: Any) -> int:
    """Say how long a value is as text or list; a number counts as itself, for it may be a repetition."""
    if isinstance(value, str | list | tuple):
        return len(value)
    return abs(value) if isinstance(value, int) else 1


def _line_of(exc: BaseException, name: str) -> int:
    """Find the line of the template in the traceback, which Jinja has rewritten to point there."""
    line = 0
    step = exc.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == f"templates/{name}":
            line = step.tb_lineno
        step = step.tb_next
    return line


def _forbidden(name: str, line: int, detail: str) -> DesiredStateError:
    return _problem(
        "REC4002",
        "a template does more than lay out",
        name,
        line,
        detail,
        "use the values as they are given; if one is missing, it has to be added to the program",
    )


def _problem(code: str, summary: str, name: str, line: int, detail: str, fix: str) -> DesiredStateError:
    return DesiredStateError(Problem(code, summary, detail, fix, Where(f"templates/{name}", line)))

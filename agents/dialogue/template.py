"""Instructions and greetings with variables: ``{{ caller.name }}`` and ``{% if … %}``, in Jinja2's syntax and sandbox.

1. What a template may be is listed here; everything else is refused when it is read: no loops, no calls, no macros, no
   subscripts, and a dot is a part of a variable's name, never a look into a Python object.
2. Values are text. They are put in as they are and never read as a template.
3. Without loops and with the bounds below neither time nor size can run away.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2 import Template as Compiled
from jinja2.sandbox import ImmutableSandboxedEnvironment

SOURCE_CHARACTERS = 80_000
RENDERED_CHARACTERS = 128_000
PARTS = 1_000
"""Variables, conditions and the words in them."""
DEPTH = 20
TEXT_FILTERS = {"capitalize", "default", "lower", "title", "trim", "upper"}
FILTERS = TEXT_FILTERS | {"int"}
ORDER = {"gt", "gteq", "lt", "lteq"}
KNOWN = frozenset({"agent.name", "agent.slug", "call.id", "call.channel", "call.date", "call.time", "call.weekday"})
"""The variables that every call has; agents need not declare them."""
RESERVED = ("agent", "call")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
MARKS = re.compile(r"\{[{%#]")
RAW = re.compile(r"\{%[-+]?\s*raw\s*[-+]?%}.*?\{%[-+]?\s*endraw\s*[-+]?%}", re.DOTALL)
CLOSING = {
    # Up to the next mark, but for what is in quotes.
    "{{": re.compile(r"""(?:'[^'\n]*'|"[^"\n]*"|(?!\{[{%#]|}}).)*+}}""", re.DOTALL),
    "{%": re.compile(r"""(?:'[^'\n]*'|"[^"\n]*"|(?!\{[{%#]|%}).)*+%}""", re.DOTALL),
    "{#": re.compile(r".*?#}", re.DOTALL),
}
ALLOWED = "{{ variable }}, {% if %} with and, or, not, in and comparisons, and the filters " + ", ".join(
    sorted(FILTERS)
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a line, counted from 1."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.message}"


class TemplateInvalid(Exception):
    """The text is no template that may be used; ``faults`` has all that was found."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(" ".join(str(fault) for fault in faults))
        self.faults = faults


class VariableMissing(Exception):
    """A call did not bring a variable that it must."""

    code = "variable_missing"

    def __init__(self, name: str) -> None:
        super().__init__(f"The variable {name!r} has no value and no default: the call must bring it.")
        self.message = str(self)
        self.name = name


class RenderedTooLong(Exception):
    """The values made more text of a template than a model is given."""

    code = "prompt_too_long"

    def __init__(self) -> None:
        super().__init__(f"With its variables filled in the text has more than {RENDERED_CHARACTERS} characters.")
        self.message = str(self)


@dataclass(frozen=True, slots=True)
class Template:
    """``variables`` maps each variable that is used to the line where it first is."""

    source: str
    variables: Mapping[str, int]
    _compiled: Compiled | None = field(repr=False, compare=False)
    _names: Mapping[str, str] = field(repr=False, compare=False)

    def render(self, values: Mapping[str, str]) -> str:
        """Raises VariableMissing and RenderedTooLong."""
        if self._compiled is None:
            return self.source
        filled = {name: values.get(variable, StrictUndefined(variable)) for variable, name in self._names.items()}
        pieces, length = [], 0
        try:
            for piece in self._compiled.generate(filled):
                length += len(piece)
                if length > RENDERED_CHARACTERS:
                    raise RenderedTooLong
                pieces.append(piece)
        except UndefinedError as error:
            raise VariableMissing(str(error)) from error
        return "".join(pieces)


def escape(text: str) -> str:
    """A template that renders to ``text``, whatever is in it."""
    return MARKS.sub(lambda mark: f"{{{{ '{mark[0]}' }}}}", text)


def render(source: str, values: Mapping[str, str]) -> str:
    """Raises TemplateInvalid, VariableMissing and RenderedTooLong."""
    return parse(source).render(values)


@lru_cache(maxsize=512)
def parse(source: str) -> Template:
    """Raises TemplateInvalid."""
    if len(source) > SOURCE_CHARACTERS:
        raise TemplateInvalid((Fault(1, f"A template may have at most {SOURCE_CHARACTERS} characters."),))
    if not MARKS.search(source):
        return Template(source, {}, None, {})
    try:
        tree = ENVIRONMENT.parse(source)
    except TemplateSyntaxError as error:
        if unclosed := _unclosed(source):
            raise TemplateInvalid((unclosed,)) from error
        raise TemplateInvalid((Fault(error.lineno, error.message or "This is no template."),)) from error
    except RecursionError as error:
        raise TemplateInvalid((Fault(1, f"It is nested more than {DEPTH} deep."),)) from error
    except ValueError as error:  # Python's own limit on the digits of a number
        raise TemplateInvalid((Fault(1, "A number in it is too long."),)) from error
    reader = _Reader()
    tree.body = [reader.read(node, DEPTH) for node in tree.body]
    if reader.parts > PARTS:
        reader.blame(tree, f"A template may have at most {PARTS} variables, conditions and words in them.")
    if reader.faults:
        raise TemplateInvalid(tuple(reader.faults))
    compiled = Compiled.from_code(ENVIRONMENT, ENVIRONMENT.compile(tree), {})
    return Template(source, reader.lines, compiled, reader.names)


def _unclosed(source: str) -> Fault | None:
    """The first mark without its end, of a text that Jinja2 cannot read: it says what it would rather have read."""
    position, source = 0, RAW.sub(lambda raw: "\n" * raw[0].count("\n"), source)
    while mark := MARKS.search(source, position):
        end = CLOSING[mark[0]].match(source, mark.end())
        if end is None:
            close = mark[0][1].replace("{", "}") + "}"
            words = f"A {mark[0]!r} is not closed: {close!r} is missing behind it."
            return Fault(source.count("\n", 0, mark.start()) + 1, words)
        position = end.end()
    return None


def check_name(name: str) -> str:
    """What is wrong with it as the name of a variable that an agent declares; empty when nothing is."""
    if len(name) > 64 or not NAME.fullmatch(name):
        return "A variable is called by letters, digits and '_', in parts with dots between, such as caller.name."
    if name.partition(".")[0] in RESERVED:
        return f"Names that begin with {' or '.join(f'{word}.' for word in RESERVED)} are ours."
    try:
        usable = parse(f"{{{{ {name} }}}}").variables.keys() == {name}
    except TemplateInvalid:
        usable = False
    return "" if usable else f"{name!r} is a word of the template language."


def call_values(*, agent_name: str, agent_slug: str, call_id: str, channel: str, now: datetime) -> dict[str, str]:
    """The variables of ``KNOWN``; ``now`` is in the agent's time zone."""
    return {
        "agent.name": agent_name,
        "agent.slug": agent_slug,
        "call.id": call_id,
        "call.channel": channel,
        "call.date": f"{now:%Y-%m-%d}",
        "call.time": f"{now:%H:%M}",
        "call.weekday": WEEKDAYS[now.weekday()],
    }


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    made.globals.clear()
    made.filters = {name: made.filters[name] for name in FILTERS}
    made.tests = {"defined": made.tests["defined"]}
    return made


ENVIRONMENT = _environment()


class _Reader:
    """Holds a tree to rule 1, and puts one plain name in the place of each dotted one."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.lines: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.parts = 0

    def blame(self, node: nodes.Node, message: str) -> None:
        fault = Fault(node.lineno or 1, message)
        if fault not in self.faults:
            self.faults.append(fault)

    def read(self, node: Any, depth: int) -> Any:
        """The node as it is compiled."""
        if depth == 0:
            self.blame(node, f"It is nested more than {DEPTH} deep.")
            return node
        if isinstance(node, nodes.TemplateData):
            return node
        self.parts += 1
        if isinstance(node, nodes.Name | nodes.Getattr) and (variable := _dotted(node)):
            return self._variable(node, variable)
        if not self._allow(node):
            return node
        for name, value in list(node.iter_fields()):
            if isinstance(value, nodes.Node):
                setattr(node, name, self.read(value, depth - 1))
            elif isinstance(value, list):
                setattr(
                    node, name, [self.read(part, depth - 1) if isinstance(part, nodes.Node) else part for part in value]
                )
        return node

    def _variable(self, node: nodes.Node, variable: str) -> nodes.Node:
        if len(variable) > 64 or not NAME.fullmatch(variable):
            self.blame(node, f"{variable[:64]!r} is no variable's name: use letters, digits, '_' and dots.")
        self.lines.setdefault(variable, node.lineno or 1)
        name = self.names.setdefault(variable, f"v{len(self.names)}")
        return nodes.Name(name, "load", lineno=node.lineno)

    def _allow(self, node: nodes.Node) -> bool:
        found = len(self.faults)
        match node:
            case nodes.Output() | nodes.If() | nodes.And() | nodes.Or() | nodes.Not() | nodes.Operand() | nodes.Const():
                pass
            case nodes.CondExpr(expr2=None):
                self.blame(node, "An inline 'if' needs an 'else'.")
            case nodes.CondExpr():
                pass
            case nodes.Test(name="defined", args=[], kwargs=[], dyn_args=None, dyn_kwargs=None):
                pass
            case nodes.Filter():
                self._check_filter(node)
            case nodes.Compare():
                self._check_comparison(node)
            case nodes.List() | nodes.Tuple():
                if not all(isinstance(part, nodes.Const) for part in node.items):
                    self.blame(node, "A list has only constants in it.")
            case _:
                self.blame(node, f"{_said(node)} may not be used here. There are {ALLOWED}.")
        return len(self.faults) == found

    def _check_filter(self, node: nodes.Filter) -> None:
        if node.name not in FILTERS:
            self.blame(node, f"There is no filter {node.name!r}; there are {', '.join(sorted(FILTERS))}.")
        elif node.name == "default":
            text = len(node.args) == 1 and isinstance(node.args[0], nodes.Const) and isinstance(node.args[0].value, str)
            if not text or node.kwargs or node.dyn_args or node.dyn_kwargs:
                self.blame(node, "The filter default takes one text in quotes.")
        elif node.args or node.kwargs or node.dyn_args or node.dyn_kwargs:
            self.blame(node, f"The filter {node.name} takes nothing in brackets.")

    def _check_comparison(self, node: nodes.Compare) -> None:
        if len(node.ops) != 1:
            self.blame(node, "Compare two things at a time; use 'and' for more.")
        left, right, how = node.expr, node.ops[0].expr, node.ops[0].op
        if how in ORDER and not (_is_number(left) and _is_number(right)):
            self.blame(node, "Only numbers have an order: write caller.age | int > 17.")
        if how in ("in", "notin"):
            among = isinstance(right, nodes.List | nodes.Tuple) or _is_text(right)
            if not (among and _is_text(left)):
                self.blame(node, "Only a text is 'in' a text or in a list such as ['en', 'de'].")


def _dotted(node: nodes.Node) -> str:
    """``caller.name`` as one name; empty where something else than names is between the dots."""
    names: list[str] = []
    while isinstance(node, nodes.Getattr):
        names.append(node.attr)
        node = node.node
    return ".".join([node.name, *reversed(names)]) if isinstance(node, nodes.Name) else ""


def _is_number(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Const):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    return isinstance(node, nodes.Filter) and node.name == "int"


def _is_text(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Const):
        return isinstance(node.value, str)
    return isinstance(node, nodes.Name | nodes.Getattr) or (
        isinstance(node, nodes.Filter) and node.name in TEXT_FILTERS
    )


def _said(node: nodes.Node) -> str:
    return SAID.get(type(node), f"'{type(node).__name__.lower()}'")


SAID: dict[type[nodes.Node], str] = {
    nodes.Call: "A call",
    nodes.Getattr: "A dot after something that is no name",
    nodes.Getitem: "A subscript [ ]",
    nodes.For: "A loop",
    nodes.Test: "A test other than 'is defined'",
    nodes.Macro: "A macro",
    nodes.Assign: "'set'",
    nodes.AssignBlock: "'set'",
    nodes.Dict: "A dictionary",
}

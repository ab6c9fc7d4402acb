"""The table of commands: from one typed function to a command line, its completion and its help.

    @command("info registers", aliases=("registers",))
    def info_registers(session: Session) -> GeneralRegisters:
        '''Show the general registers.'''

A parameter's annotation says how its text is read (parameters.py); a parameter with a default may be left out, and one
with a star takes what is left. Keyword-only ones are options: `--name VALUE`, or `--name` alone for a bool. Words may be
shortened as long as one command fits: `i r`. The decorated function stays callable from Python, and returns data whose
`str` is what people see; with `--json`, which every command has, they see its fields (json_output.py). An expression that
is a command's last parameter may have blanks in it. The docstring ends with a paragraph `For example:` and command lines.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, ParamSpec, TypeVar, get_type_hints

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.json_output import as_json
from dbgvmm.commands.parameters import PATH, Format, ParameterType, parameter_type
from dbgvmm.commands.session import Session
from dbgvmm.commands.words import split_words, typed_words, without_quotes

P = ParamSpec("P")
R = TypeVar("R")
_FORMAT: Final = "/"
_JSON: Final = "--json"
_EXAMPLES: Final = "For example:"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a command. `many`: it takes all words that are left. An option of one letter has one dash."""

    name: str
    type: ParameterType
    optional: bool
    many: bool
    option: bool = False
    flag: bool = False

    def read(self, session: Session, word: str) -> object:
        """The value of a typed word. Raises CommandError."""
        return self.type.parse(session, word if self.type.quoted else without_quotes(word))

    @property
    def dashed(self) -> str:
        """An option as it is typed."""
        return f"{'-' if len(self.name) == 1 else '--'}{self.name}"

    @property
    def usage(self) -> str:
        """As the help shows it: NAME, [NAME], [NAME...], [--name NAME], [--name]."""
        if self.option:
            return f"[{self.dashed}]" if self.flag else f"[{self.dashed} {self.name.upper()}]"
        text = f"{self.name.upper()}..." if self.many else self.name.upper()
        return f"[{text}]" if self.optional else text


class Command(Generic[P, R]):
    """A command: call it with a session and values, or let a `CommandTable` call it with words.

    resumes: it runs the guest; gdb's `monitor` then says that gdb must read again. repeats: an empty line means "again".
    raw: its one parameter is the rest of the line, as it was typed.
    """

    def __init__(
        self, function: Callable[P, R], name: str, aliases: tuple[str, ...], resumes: bool, repeats: bool, raw: bool = False
    ) -> None:
        self.function = function
        self.name = name
        self.aliases = aliases
        self.resumes = resumes
        self.repeats = repeats
        self.raw = raw
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.takes_format = False
        self.options: dict[str, Parameter] = {}
        self.parameters = self._find_parameters()

    def touches_files(self, words: Sequence[str]) -> bool:
        """Whether these words name a file on the host."""
        plain = 0
        rest = iter(words)
        for word in rest:
            option = self.options.get(word)
            if option is None:
                plain += 1
            elif option.type is PATH:
                return True
            elif not option.flag:
                next(rest, None)
        return any(item.type is PATH for item in self.parameters[:plain])

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def _find_parameters(self) -> tuple[Parameter, ...]:
        hints = get_type_hints(self.function)
        found: list[Parameter] = []
        options: dict[str, Parameter] = {}
        _, *parameters = inspect.signature(self.function).parameters.values()
        for parameter in parameters:
            hint = hints[parameter.name]
            if hint is Format:
                self.takes_format = True
                continue
            if parameter.kind is parameter.KEYWORD_ONLY:
                flag = hint is bool
                kind = parameter_type(str if flag else hint)
                option = Parameter(parameter.name, kind, True, False, True, flag)
                options[option.dashed] = option
                continue
            many = parameter.kind is parameter.VAR_POSITIONAL
            optional = many or parameter.default is not parameter.empty
            found.append(Parameter(parameter.name, parameter_type(hint), optional, many))
        self.options = options
        return tuple(found)

    @property
    def help(self) -> str:
        """The docstring, unindented."""
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.help.partition("\n")[0]

    @property
    def examples(self) -> tuple[str, ...]:
        """The command lines at the docstring's end."""
        lines = self.help.partition(_EXAMPLES)[2].splitlines()
        return tuple(line.strip() for line in lines if line.strip())

    @property
    def usage(self) -> str:
        """How to type it."""
        name = f"{self.name}[/FMT]" if self.takes_format else self.name
        return " ".join((name, *(item.usage for item in (*self.parameters, *self.options.values()))))

    def parse(self, session: Session, words: Sequence[str], fmt: str | None) -> list[object]:
        """The values for `words`. Raises CommandError."""
        values: list[object] = []
        if self.takes_format:
            values.append(Format(fmt or ""))
        elif fmt is not None:
            raise CommandError(f"`{self.name}` takes no /FMT; usage: {self.usage}")
        left = list(words)
        for parameter in self.parameters:
            if parameter.many:
                values += [parameter.read(session, word) for word in left]
                left.clear()
            elif left and parameter.type.joins and parameter is self.parameters[-1]:
                values.append(parameter.read(session, " ".join(left)))
                left.clear()
            elif left:
                values.append(parameter.read(session, left.pop(0)))
            elif not parameter.optional:
                raise CommandError(f"{parameter.name.upper()} is missing; usage: {self.usage}")
        if left:
            raise CommandError(f"{left[0]!r} is too much; usage: {self.usage}")
        return values

    def arguments(self, session: Session, words: Sequence[str], fmt: str | None) -> tuple[list[object], dict[str, object]]:
        """What typed words stand for: values and options. Raises CommandError."""
        left, options = self._parse_options(session, words)
        return self.parse(session, left, fmt), options

    def run_words(self, session: Session, words: Sequence[str], fmt: str | None) -> object:
        """Call it with typed words."""
        function: Callable[..., object] = self.function
        if self.raw:
            return function(session, *words)
        values, options = self.arguments(session, words, fmt)
        return function(session, *values, **options)

    def _parse_options(self, session: Session, words: Sequence[str]) -> tuple[list[str], dict[str, object]]:
        """The words that are no options, and the options' values. Raises CommandError."""
        left: list[str] = []
        values: dict[str, object] = {}
        rest = list(words)
        while rest:
            word = rest.pop(0)
            option = self.options.get(word)
            if option is None:
                if self.options and word.startswith("--"):
                    raise CommandError(f"there is no option {word}; usage: {self.usage}")
                left.append(word)
            elif option.flag:
                values[option.name] = True
            elif rest:
                values[option.name] = option.read(session, rest.pop(0))
            else:
                raise CommandError(f"{word} needs a value; usage: {self.usage}")
        return left, values


AnyCommand = Command[Any, Any]


def command(
    name: str, *, aliases: tuple[str, ...] = (), resumes: bool = False, repeats: bool = False, raw: bool = False
) -> Callable[[Callable[P, R]], Command[P, R]]:
    """Make a command of a function whose first parameter is the session."""

    def decorate(function: Callable[P, R]) -> Command[P, R]:
        return Command(function, name, aliases, resumes, repeats, raw)

    return decorate


@dataclass(frozen=True)
class Call:
    """A command line that was understood: what to run, with which words. json: its data is wanted, not its text."""

    command: AnyCommand
    words: tuple[str, ...]
    fmt: str | None
    json: bool = False

    def run(self, session: Session) -> object:
        """Do it. `str` of what it returns is what to show. Raises CommandError, QuitRequest."""
        if not self.json:
            return self.command.run_words(session, self.words, self.fmt)
        with session.quietly():
            return as_json(self.command.run_words(session, self.words, self.fmt))


class CommandTable:
    """Commands by name. Raises ValueError if two have the same name or alias.

    load: gives the commands. It is asked when the first one is wanted, since that takes longer than a small guest runs.
    """

    def __init__(self, load: Callable[[], Iterable[AnyCommand]]) -> None:
        self._load: Callable[[], Iterable[AnyCommand]] | None = load
        self._commands: tuple[AnyCommand, ...] = ()
        self._by_name: dict[tuple[str, ...], AnyCommand] = {}
        self._longest = 0

    def load(self) -> None:
        """Load the commands now, if that was not done yet."""
        if self._load is not None:
            self._know(tuple(self._load()))  # a Ctrl-C in the middle of it changes nothing
            self._load = None

    @property
    def commands(self) -> tuple[AnyCommand, ...]:
        """All of them, in the order in which they were added."""
        self.load()
        return self._commands

    @property
    def _names(self) -> dict[tuple[str, ...], AnyCommand]:
        return self._by_name if self.commands else {}

    def replace(self, old: Iterable[AnyCommand], new: Iterable[AnyCommand]) -> None:
        """Forget the commands `old`, and know `new`. Raises ValueError, with nothing changed."""
        gone = set(map(id, old))
        self._know((*(item for item in self.commands if id(item) not in gone), *new))

    def _know(self, commands: tuple[AnyCommand, ...]) -> None:
        names: dict[tuple[str, ...], AnyCommand] = {}
        for item in commands:
            for name in (item.name, *item.aliases):
                if names.setdefault(tuple(name.split()), item) is not item:
                    raise ValueError(f"two commands are called {name!r}")
        self._commands, self._by_name = commands, names
        self._longest = max(map(len, names), default=0)

    def execute(self, session: Session, line: str) -> object:
        """Run a line; None for an empty one or a comment (#). Raises CommandError, QuitRequest."""
        call = self.understand(line)
        return None if call is None else call.run(session)

    def understand(self, line: str) -> Call | None:
        """What a line asks for. Raises CommandError."""
        if line.lstrip().startswith("#"):
            return None
        first, *rest = line.split(maxsplit=1) or [""]
        raw = self._names.get((first,))
        if raw is not None and raw.raw:
            return Call(raw, tuple(text.rstrip() for text in rest), None)
        words = split_words(line)
        if not words:
            return None
        words[0], slash, fmt = words[0].partition(_FORMAT)
        if not words[0]:
            raise CommandError(f"{line!r}: a command's name is missing; `help` lists them")
        if slash and not fmt:
            raise CommandError("a format is missing after the '/': for instance x/4xg")
        json = _JSON in words
        call = self._find([word for word in words if word != _JSON], fmt if slash else None)
        if not slash and call.command.takes_format and call.words and call.words[0].startswith(_FORMAT):
            call = replace(call, words=call.words[1:], fmt=call.words[0][1:])  # `x /4xg`, as gdb has it too
        return replace(call, json=True) if json else call

    def _find(self, words: list[str], fmt: str | None) -> Call:
        for length in range(min(self._longest, len(words)), 0, -1):
            exact = self._names.get(tuple(words[:length]))
            if exact is not None:
                return Call(exact, tuple(words[length:]), fmt)
        for length in range(min(self._longest, len(words)), 0, -1):
            found = self._shortened(words[:length])
            if len(found) == 1:
                return Call(next(iter(found.values())), tuple(words[length:]), fmt)
            if found:
                raise CommandError(f"{' '.join(words[:length])!r} could be {', '.join(sorted(found))}")
        continuations = sorted({name[1] for name in self._names if len(name) > 1 and name[0].startswith(words[0])})
        if continuations:
            raise CommandError(
                f"{' '.join(words[:2])!r} is not a command; {words[0]} goes with {', '.join(continuations)}"
            )
        raise CommandError(f"there is no command {words[0]!r}: `help` lists them")

    def _shortened(self, words: Sequence[str]) -> dict[str, AnyCommand]:
        """The commands with as many words, each beginning with the one typed; those that end in just the last one first."""
        found: dict[str, AnyCommand] = {}
        exact: dict[str, AnyCommand] = {}
        for name, item in self._names.items():
            if len(name) == len(words) and all(full.startswith(word) for full, word in zip(name, words, strict=True)):
                found[item.name] = item
                if name[-1] == words[-1]:
                    exact[item.name] = item
        return exact or found

    def complete(self, session: Session, line: str) -> list[str]:
        """Ways to finish the last word of `line` (which may be empty, after a blank)."""
        *before, last = typed_words(line)
        if before:
            before[0] = before[0].partition(_FORMAT)[0]
        found = {name[len(before)] for name in self._names if self._may_follow(name, before, last)}
        try:
            call = self._find(before, None) if before else None
        except CommandError:
            call = None
        if call is not None:
            found.update(self._arguments(session, call, last))
        return sorted(found)

    @staticmethod
    def _arguments(session: Session, call: Call, last: str) -> Iterable[str]:
        """Ways to finish an option, its value, or a parameter of `call`, whose words stand before it."""
        options = call.command.options
        if last.startswith("-"):
            return [name for name in (*options, _JSON) if name.startswith(last)]
        before = [word for word in call.words if word != _JSON]
        if call.command.takes_format and before and before[0].startswith(_FORMAT):
            del before[0]
        option = options.get(before[-1]) if before else None
        if option is not None and not option.flag:
            return option.type.complete(session, last)
        valued = {name for name, item in options.items() if not item.flag}
        plain = [
            word for at, word in enumerate(before) if word not in options and (at == 0 or before[at - 1] not in valued)
        ]
        parameters = call.command.parameters
        if not parameters or (len(plain) >= len(parameters) and not parameters[-1].many and not parameters[-1].type.joins):
            return []
        return parameters[min(len(plain), len(parameters) - 1)].type.complete(session, last)

    @staticmethod
    def _may_follow(name: tuple[str, ...], before: Sequence[str], last: str) -> bool:
        return (
            len(name) > len(before)
            and all(full.startswith(word) for full, word in zip(name, before, strict=False))
            and name[len(before)].startswith(last)
        )

"""What a shell would run, as far as that can be read without running it: commands, their words and their variables.

Branches and loops are read from top to bottom, as if all of them ran; what `$(…)` would give is not known.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

_TOKEN = re.compile(
    r"""(?P<none>\#[^\n]*|\\\n)
      | (?P<end>\n|&(?!>)|[;|()])
      | (?P<word>(?:[<>]&|&>|\\[^\n]|'[^']*'|"(?:\\.|[^"\\])*"|SUBSTITUTION|[^\s;&|()'"\\])+)""".replace(
        "SUBSTITUTION", r"\$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
    ),
    re.X | re.S,
)
_QUOTED = re.compile(r"""'(?P<plain>[^']*)'|"(?P<rich>(?:\\.|[^"\\])*)"|\\(?P<one>.)""", re.S)
_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<name>\w+)(?::?-(?P<default>[^{}]*))?\})")
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.S)
_REDIRECTION = re.compile(r"\d*(?:[<>]{1,3}|&>)(?P<to>.*)", re.S)
_KEYWORDS = {"if", "then", "elif", "else", "while", "until", "do", "time", "!", "{", "}", "fi", "done"}
_WRITES = {"echo", "printf", "grep", "cat"}
"""Commands that take a text as it is, and would not run what it says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a script.

    Attributes:
        line: where it begins in the script, from 1.
        words: its name and arguments without quotes, redirections and the assignments before them; none for
            assignments alone.
        variables: all that are known once it ran, the shell's own among them.
        environment: those that it sees.
    """

    line: int
    words: tuple[str, ...]
    variables: Mapping[str, str]
    environment: Mapping[str, str]

    def after(self, *names: str) -> tuple[str, ...] | None:
        """Returns the words behind such as `ray start`, also where another command runs it; None without."""
        if self.words and self.words[0] in _WRITES:
            return None
        for i in range(len(self.words) - len(names) + 1):
            first, *others = self.words[i : i + len(names)]
            if first.rpartition("/")[2] == names[0] and tuple(others) == names[1:]:
                return self.words[i + len(names) :]
        return None


def commands(text: str, environment: Mapping[str, str] | None = None) -> Iterator[Command]:
    """Yields what a script runs, in order; what it hands to another shell (`bash -c '…'`) is read as well.

    Args:
        text: the script, or one line of it.
        environment: what it is called with.
    """
    variables, exported = dict(environment or {}), set(environment or {})
    for line, raw in _simple(text):
        words = list(_without_redirections(raw))
        while words and words[0] in _KEYWORDS:
            del words[0]
        own: dict[str, str] = {}
        while words and (found := _ASSIGNMENT.fullmatch(words[0])):
            own[found["name"]] = _value(found["value"], variables | own)
            del words[0]
        plain = tuple(_value(word, variables) for word in words)
        if not plain:
            variables |= own
        elif plain[0] in {"export", "declare", "typeset", "readonly", "local"}:
            assigned = dict(_assigned(plain))
            variables |= assigned
            if plain[0] == "export" or "-x" in plain:
                exported |= {*assigned, *plain[1:]}
        elif plain[0] == "unset":
            for name in plain[1:]:
                variables.pop(name, None)
        seen = {name: value for name, value in variables.items() if name in exported} | own | dict(_assigned(plain))
        yield Command(line=line, words=plain, variables=dict(variables), environment=seen)
        if plain and plain[0] not in _WRITES:
            for word in plain[1:]:
                inner = word[2:-1] if word.startswith("$(") else word
                if re.search(r"\s", inner):
                    for each in commands(inner, seen):
                        yield dataclasses.replace(each, line=line, variables=dict(variables))


def options(words: Sequence[str]) -> dict[str, str]:
    """Returns the options of a command line, such as `dashboard-host`, with their values, "" for those without."""
    given: dict[str, str] = {}
    for i, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            following = words[i + 1] if i + 1 < len(words) else ""
            given[name] = value if equals or following.startswith("-") else following
    return given


def docker_options(items: Sequence[object], *names: str) -> Iterator[tuple[int, str]]:
    """Yields the values that options have in Docker's `run_options`, with the item that each stands in.

    Args:
        items: an option and its value in one item, or in two.
        names: one option by all its names, such as `-p` and `--publish`.
    """
    words = [(i, _value(word, {})) for i, item in enumerate(items) for _, raw in _simple(str(item)) for word in raw]
    for position, (i, word) in enumerate(words):
        for name in names:
            if word == name and position + 1 < len(words):
                yield i, words[position + 1][1]
            elif word.startswith(f"{name}=") or (len(name) == 2 and word.startswith(name) and word != name):
                yield i, word[len(name) :].removeprefix("=")


def _simple(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields each command's words as they stand, and its line."""
    words: list[str] = []
    start = 0
    for token in _TOKEN.finditer(text):
        if token["word"]:
            start = start if words else token.start()
            words.append(token["word"])
        elif token["end"] and words:
            yield text.count("\n", 0, start) + 1, words
            words = []
    if words:
        yield text.count("\n", 0, start) + 1, words


def _without_redirections(words: Sequence[str]) -> Iterator[str]:
    target = False
    for word in words:
        found = _REDIRECTION.fullmatch(word)
        if found:
            target = not found["to"]
        elif target:
            target = False
        else:
            yield word


def _assigned(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields what `export`, `env` and the like assign: words that look like assignments before any other command."""
    if words and words[0] in {"export", "declare", "typeset", "readonly", "local", "env", "sudo"}:
        for word in words[1:]:
            if found := _ASSIGNMENT.fullmatch(word):
                yield found["name"], found["value"]


def _value(word: str, variables: Mapping[str, str]) -> str:
    """Returns a word without its quotes, and with the values of variables that are known."""

    def unquoted(found: re.Match[str]) -> str:
        if found["rich"] is not None:
            return re.sub(r"""\\(["$`\\\n])""", r"\1", found["rich"])
        return found["plain"] if found["plain"] is not None else found["one"]

    def expanded(found: re.Match[str]) -> str:
        name = found["bare"] or found["name"]
        return variables.get(name, found[0] if found["default"] is None else found["default"])

    return _VARIABLE.sub(expanded, _QUOTED.sub(unquoted, word))

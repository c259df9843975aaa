"""Keeps the documents true: links lead somewhere, commands exist, and what can be run is run.

In a document, commands stand in ```console blocks (lines that begin with `$ `; the rest is output) and Python in
```python blocks. `test_documented_commands_run` runs the blocks of one document in order, in one empty folder. A block
that no test can run is preceded by a line that says why:

    <!-- not run: 40 minutes of training -->
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent
CONSOLE, PYTHON = "console", "python"
PROGRAMS = ("bach", "search", "results")
LIKE_A_COMMAND = re.compile(rf"^(\$ |make |({'|'.join(PROGRAMS)}) )", re.M)
# Languages of blocks that hold no commands.
PLAIN = {"", "text", "toml", "json", "yaml", "csv", "make"}


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        not_run: why no test runs it; `None` if one does.
    """

    language: str
    text: str
    line: int
    not_run: str | None

    @property
    def commands(self) -> list[str]:
        """Its shell commands; a line that ends in a backslash goes on in the next."""
        return [line[2:].strip() for line in self.text.replace("\\\n", " ").splitlines() if line.startswith("$ ")]


@cache
def blocks(path: Path) -> tuple[Block, ...]:
    text = path.read_text("utf-8")
    why = r"(?:^[ ]*<!-- not run: (?P<why>[^\n]*?) *-->\n\s*)?"
    pattern = why + r"^(?P<in>[ ]*)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^[ ]*```[ ]*$"
    return tuple(
        Block(
            language=m["language"],
            text=re.sub(f"^{m['in']}", "", m["text"], flags=re.M),
            line=text[: m.start("language")].count("\n") + 1,
            not_run=m["why"],
        )
        for m in re.finditer(pattern, text, re.M | re.S)
    )


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^[ ]*```.*?^[ ]*```[ ]*$", "", path.read_text("utf-8"), flags=re.M | re.S)


def documented_commands(path: Path) -> list[str]:
    """Commands in blocks, and those in running text between backticks that begin with `make` or one of our programs."""
    inline = re.findall(r"`((?:\.venv/bin/)?(?:make|bach|search|results) [a-z][^`\n]*)`", prose(path))
    return [command for block in blocks(path) for command in block.commands] + inline


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", documents(), ids=name)
def test_every_link_leads_somewhere(path):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", documents(), ids=name)
def test_every_block_says_what_it_holds(path):
    known = PLAIN | {CONSOLE, PYTHON}
    assert [f"line {b.line}: {b.language}" for b in blocks(path) if b.language not in known] == []
    assert [f"line {b.line}: no reason" for b in blocks(path) if b.not_run == ""] == []
    unmarked = [f"line {b.line}" for b in blocks(path) if b.language == CONSOLE and not b.commands]
    assert unmarked == [], "a console block has at least one line that begins with `$ `"
    hidden = [f"line {b.line}" for b in blocks(path) if b.language in PLAIN and LIKE_A_COMMAND.search(b.text)]
    assert hidden == [], "commands stand in console blocks, where they are checked"


@pytest.mark.parametrize("path", documents(), ids=name)
def test_every_make_target_exists(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    used = [
        word
        for command in documented_commands(path)
        if command.startswith("make ")
        for word in command.split()[1:]
        if not re.match(r"[A-Z_]+=|-", word)
    ]
    assert [target for target in used if target not in targets] == []


def test_every_make_target_is_in_the_help_or_internal():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*  ## ", makefile, re.M))


def click_problems(words: list[str]) -> list[str]:
    """What a program does not know of a command line: sub-commands and options; values are not looked at."""
    command: click.Command = importlib.import_module(f"{words[0]}.cli").main
    problems, rest = [], words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        known = command.commands.get(rest[0])
        if known is None:
            # A group may have a positional of its own only if it can run without a sub-command.
            return problems if command.invoke_without_command else [f"no command {rest[0]!r}"]
        command, rest = known, rest[1:]
    options = {o for p in command.params for o in [*p.opts, *p.secondary_opts] if isinstance(p, click.Option)}
    options |= {"--help"}
    return [f"no option {w.split('=')[0]}" for w in rest if re.match(r"--?[a-z]", w) and w.split("=")[0] not in options]


@pytest.mark.parametrize("path", documents(), ids=name)
def test_every_command_and_option_exists(path):
    unknown = {}
    for command in documented_commands(path):
        words = shlex.split(command.removeprefix(".venv/bin/"), comments=True)
        if words[0] in PROGRAMS and (problems := click_problems(words)):
            unknown[command] = problems
    assert unknown == {}


def run_block(block: Block, folder: Path, environment: dict[str, str]) -> None:
    if block.language == PYTHON:
        lines = [[sys.executable, "-c", block.text]]
    else:
        # The documents say `.venv/bin/bach`, for readers who have just typed `make install`.
        lines = [["bash", "-c", command.replace(".venv/bin/", "")] for command in block.commands]
    for line in lines:
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"line {block.line}: {line[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def runnable(path: Path) -> list[Block]:
    return [b for b in blocks(path) if b.language in {CONSOLE, PYTHON} and b.not_run is None]


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in documents() if runnable(p)], ids=name)
def test_documented_commands_run(path, tmp_path):
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": search_path, "PYTHONPATH": str(ROOT)}
    # Readers type this in the checkout; here are the files of it that commands are given.
    for given in ("sweeps", "clusters", "cluster.yaml", "constraints.txt"):
        (tmp_path / given).symlink_to(ROOT / given)
    for block in runnable(path):
        run_block(block, tmp_path, environment)


def test_a_command_that_fails_is_noticed(tmp_path):
    document = tmp_path / "x.md"
    document.write_text(
        "```console\n$ true\nout\n$ false\n```\n\n<!-- not run: takes an hour -->\n```console\n$ exit 3\n```\n"
    )
    first, second = blocks(document)
    assert (first.commands, first.not_run) == (["true", "false"], None)
    assert (second.commands, second.not_run) == (["exit 3"], "takes an hour")
    assert runnable(document) == [first]
    with pytest.raises(AssertionError, match="line 1: false"):
        run_block(first, tmp_path, dict(os.environ))


def test_unknown_commands_and_options_are_noticed():
    assert click_problems(["bach", "presets", "--json"]) == []
    assert click_problems(["bach", "preset"]) == ["no command 'preset'"]
    assert click_problems(["bach", "presets", "--jsn"]) == ["no option --jsn"]
    assert click_problems(["search", "plan", "x.toml", "--json"]) == []
    assert click_problems(["results", "tip"]) == ["no command 'tip'"]


def test_every_picture_is_shown_in_a_document():
    shown = {
        (path.parent / target).resolve()
        for path in documents()
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", prose(path))
    }
    pictures = [p for p in (ROOT / "docs" / "img").glob("*") if p.suffix in {".png", ".svg"}]
    assert [name(p) for p in pictures if p.resolve() not in shown] == []
    assert not pictures or "](docs/img/" in (ROOT / "README.md").read_text("utf-8"), "the README shows none"


def test_the_changelog_opens_with_what_is_forthcoming():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[0] == "(Forthcoming)"

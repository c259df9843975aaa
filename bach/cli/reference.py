"""The reference of all commands, `docs/cli.md`, written from the commands themselves.

`python -m bach.cli.reference > docs/cli.md` writes it anew; a test compares the two.
"""

from collections.abc import Iterator

import click

from bach.cli import main

HEAD = """\
# Commands

Written by `python -m bach.cli.reference > docs/cli.md` from what `--help` says.

Results go to stdout; progress, remarks and errors to stderr. Where a command knows `--json`, stdout is one JSON
document (of `bach train`, one line an epoch), in which null stands for a number that is not finite.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | a check or a run failed |
| 2 | the caller's mistake: an unknown name, an impossible value, a file or folder that cannot be used |
| 130 | stopped by Ctrl-C |

| environment variable | meaning |
|---|---|
| `BACH_CACHE` | folder for fetched and rebuilt chorales; the user's cache folder if not set |
| `KERAS_BACKEND` | `tensorflow` or `jax`; the first of these that is installed if not set |
"""


def reference() -> str:
    """Returns the reference as Markdown."""
    return "\n".join([HEAD, *_sections(main, "bach")])


def _sections(group: click.Group, path: str) -> Iterator[str]:
    for name in sorted(group.commands):
        command = group.commands[name]
        yield _section(command, f"{path} {name}")
        if isinstance(command, click.Group):
            yield from _sections(command, f"{path} {name}")


def _section(command: click.Command, path: str) -> str:
    with click.Context(command, info_name=path) as ctx:
        usage = " ".join([path, *command.collect_usage_pieces(ctx)])
        options = [p.get_help_record(ctx) for p in command.params if isinstance(p, click.Option)]
    examples = getattr(command, "examples", ())
    help_text = "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n"))
    lines = [f"## {path}", "", help_text, "", f"    {usage}", ""]
    lines += ["For example:", "", *(f"- `{example}`" for example in examples), ""] if examples else []
    lines += ["| option | meaning |", "|---|---|"]
    lines += [f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in filter(None, options)]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    click.echo(reference(), nl=False)

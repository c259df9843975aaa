"""The reference of a program's commands, written from the commands themselves.

`python -m results.cli.reference > docs/cli-results.md` writes that of `results` anew; a test compares the two.
"""

from collections.abc import Iterator

import click

HEAD = """\
# The commands of `{name}`

Written by `python -m {name}.cli.reference > docs/cli-{name}.md` from what `--help` says.

Results go to stdout; progress, remarks and errors to stderr. Where a command knows `--json`, stdout is JSON, in which
null stands for a number that is not finite.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | a check or a run failed |
| 2 | the caller's mistake: an unknown name, an impossible value, a place that cannot be used |
| 130 | stopped by Ctrl-C |
"""


def reference(program: click.Group, name: str) -> str:
    """Returns the reference of a program as Markdown, its commands in the order of its help."""
    with click.Context(program, info_name=name) as ctx:
        return "\n".join([HEAD.format(name=name), *_sections(ctx, program, name)])


def _sections(ctx: click.Context, group: click.Group, path: str) -> Iterator[str]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None:
            continue
        yield _section(command, f"{path} {name}")
        if isinstance(command, click.Group):
            yield from _sections(ctx, command, f"{path} {name}")


def _section(command: click.Command, path: str) -> str:
    with click.Context(command, info_name=path) as ctx:
        usage = " ".join([path, *command.collect_usage_pieces(ctx)])
        options = [p.get_help_record(ctx) for p in command.params if isinstance(p, click.Option)]
    examples = getattr(command, "examples", ())
    help_text = "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n"))
    lines = [f"## {path}", "", help_text, "", f"    {usage}", ""]
    lines += ["For example:", "", *(f"- `{example}`" for example in examples), ""] if examples else []
    lines += ["| option | meaning |", "|---|---|"] if any(options) else []
    lines += [f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in filter(None, options)]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    from results.cli import main

    click.echo(reference(main, "results"), nl=False)

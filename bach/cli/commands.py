"""Commands with a line to paste in their help, and the way from exceptions to messages and exit statuses.

0: done. 1: a check or a run failed. 2: the caller's mistake. 130: stopped by Ctrl-C.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from bach.cli.terminal import Terminal
from bach.errors import BachError, CallerError

FAILED, MISTAKE, STOPPED = 1, 2, 130


class _WithExamples(click.Command):
    """Gives a command or a group examples, shown below its help.

    Attributes:
        examples: whole command lines.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any):
        """Takes what Click takes, and the examples."""
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the help and the examples."""
        super().format_help_text(ctx, formatter)
        _write_examples(self.examples, formatter)


class Command(_WithExamples):
    """A command with examples."""


class Commands(_WithExamples, click.Group):
    """A group of commands, with examples."""

    command_class = Command


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    formatter.write_paragraph()
    for example in examples:
        formatter.write(f"    {example}\n")


class Program(Commands):
    """All commands: their mistakes end in a sentence and an exit status, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        terminal = ctx.ensure_object(Terminal)
        try:
            return super().invoke(ctx)
        except CallerError as error:
            status, message = MISTAKE, f"Error: {error}"
        except BachError as error:
            status, message = FAILED, f"Error: {error}"
        except KeyboardInterrupt:
            status, message = STOPPED, "\nStopped."
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # nobody reads any more; click ends quietly
            place = f" {error.filename}" if error.filename else ""
            status, message = MISTAKE, f"Error: cannot read or write{place}: {error.strerror or error}"
            _give_up_stdout()
        finally:
            terminal.clear()
        with contextlib.suppress(OSError):
            terminal.note(message)
        return ctx.exit(status)


def _give_up_stdout() -> None:
    """Lets go of what could not be printed, so that Python does not stumble over it once more on its way out."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

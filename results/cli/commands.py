"""Commands with a line to paste in their help, and the way from exceptions to messages and exit statuses.

0: done. 1: a check or a run failed. 2: the caller's mistake. 130: stopped by Ctrl-C.

Another package builds its program of the same parts and names its own errors:

    @click.group(cls=Program, mistakes=(MyCallerError,), failures=(MyError,), examples=["my go"])
"""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from results.cli.terminal import Terminal
from results.errors import CallerError, ResultsError

FAILED, MISTAKE, STOPPED = 1, 2, 130

pass_terminal = click.make_pass_decorator(Terminal, ensure=True)


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
        formatter.write_paragraph()
        for example in self.examples:
            formatter.write(f"    {example}\n")


class Command(_WithExamples):
    """A command with examples."""


class Commands(_WithExamples, click.Group):
    """A group of commands, with examples."""

    command_class = Command


class Program(Commands):
    """All commands: their mistakes end in a sentence and an exit status, never in a traceback.

    Attributes:
        mistakes: errors that are the caller's mistake (exit status 2).
        failures: other errors that are raised on purpose (exit status 1).
    """

    def __init__(
        self,
        *args: Any,
        mistakes: tuple[type[Exception], ...] = (),
        failures: tuple[type[Exception], ...] = (),
        **kwargs: Any,
    ):
        """Takes what a group of commands takes, and errors beside those of `results`."""
        super().__init__(*args, **kwargs)
        self.mistakes = (CallerError, *mistakes)
        self.failures = (ResultsError, *failures)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        terminal = ctx.ensure_object(Terminal)
        try:
            return super().invoke(ctx)
        except self.mistakes as error:
            status, message = MISTAKE, f"Error: {error}"
        except self.failures as error:
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

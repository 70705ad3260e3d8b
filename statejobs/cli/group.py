"""Groups of commands that know what was meant, and a program that explains its errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click
from sqlalchemy.exc import DBAPIError

from statejobs.cli.problems import Exit, Problem, problem_of
from statejobs.cli.settings import Settings
from statejobs.errors import did_you_mean
from statejobs.values.failure import traceback_of

_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click raises for a group alone; before 8.2 it prints the help itself."""


class Group(click.Group):
    """A group whose unknown commands get a hint."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            hint = did_you_mean(name, self.list_commands(ctx))
            raise click.UsageError(f"no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order in which they were added."""
        return [name for name, command in self.commands.items() if not command.hidden]


class Program(Group):
    """The root: turns every error into three lines and an exit code."""

    def main(
        self, args: Sequence[str] | None = None, *others: Any, **options: Any
    ) -> NoReturn:
        """Run one command, then exit."""
        settings = options.setdefault("obj", Settings())
        stdout = sys.stdout
        options["standalone_mode"] = False
        try:
            code = super().main(args, *others, **options)
        except _NO_ARGUMENTS as error:
            settings.output.note(error.format_message())
            sys.exit(Exit.USAGE)
        except click.Abort:
            settings.output.note("interrupted")
            sys.exit(Exit.INTERRUPTED)
        except SystemExit:
            if sys.stdout is not stdout:
                # click met a reader that went away, and replaced it
                sys.exit(Exit.OK)
            raise
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            explain(problem, settings, error)
            sys.exit(problem.code)
        sys.exit(_exit_code(code, settings))


def _exit_code(code: object, settings: Settings) -> int:
    """Return how a command ends that did what it was asked: well, if what it said was taken."""
    problem = settings.output.terminal.problem
    if problem is not None:
        reason = problem.strerror or problem
        settings.output.note(f"error: standard output could not be written: {reason}")
        return Exit.FAILED
    return code if isinstance(code, int) else Exit.OK


def explain(
    problem: Problem, settings: Settings, error: BaseException | None = None
) -> None:
    """Print *problem*: three lines on stderr, and the document with `--json`."""
    output = settings.output
    if settings.debug and error is not None:
        output.note(traceback_of(error, settings.redaction).rstrip())
    if isinstance(error, DBAPIError):
        problem.why = settings.redaction.text(problem.why)
    output.note(problem.lines())
    if settings.as_json:
        output.json(problem.document())

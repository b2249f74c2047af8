"""How the commands speak: lines on stdout, errors as sentences and as JSON, and being stopped or not heard."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import Any, NoReturn, TextIO

import click

from dbsync.cli.console import printable, say
from dbsync.errors import TillkeeperError, wrapped
from dbsync.outcomes import ExitStatus
from dbsync.storage.platform import this_platform

_UNHEARD, _STDOUT = "dbsync.unheard", "dbsync.stdout"


class Commands(click.Group):
    """The commands; an answer that nobody could be given is said by the exit code."""

    answering: frozenset[str] = frozenset()
    """Commands whose work is their answer: where it cannot be printed they have failed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run one. Whoever stops reading (`| head`) has what was wanted; a full disk is a failure."""
        code: Any = 0
        try:
            result = super().invoke(ctx)
        except SystemExit as done:
            code, result = done.code, None
        cause = ctx.meta.get(_UNHEARD)
        if cause and not code and ctx.invoked_subcommand in self.answering:
            raise click.ClickException(f"what was found could not be printed: {cause}")
        if code:
            sys.exit(code)
        return result


class Failure(click.ClickException):
    """An error as people read it, and with --json as programs do: one document on stdout."""

    def __init__(self, error: TillkeeperError, *, as_json: bool) -> None:
        super().__init__(printable(error.in_words))
        self.exit_code: int = ExitStatus.INTERRUPTED if isinstance(error, Stopped) else error.exit_status  # type: ignore[misc]
        self._told = {
            "format": 1,
            "kind": "error",
            "error": type(error).__name__,
            "operation": error.operation,
            "path": str(error.path) if error.path is not None else None,
            "cause": error.cause,
            "hint": error.hint,
            "exit_code": self.exit_code,
        }
        self._as_json = as_json

    def show(self, file: Any = None) -> None:
        """Say it on stderr; for programs on stdout as well."""
        if self._as_json:
            tell(json.dumps(self._told))
        super().show(file)


class Stopped(TillkeeperError):
    """A person pressed Ctrl-C."""


@contextmanager
def errors_told(*, as_json: bool) -> Iterator[None]:
    """Turn our errors, those of files, and Ctrl-C into sentences and exit codes.

    With JSON on stdout, what else is printed there, by a migration for instance, goes to stderr.
    """
    meta = click.get_current_context().meta
    meta[_STDOUT] = sys.stdout
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            yield
    except TillkeeperError as error:
        raise Failure(error, as_json=as_json) from error
    except OSError as cause:
        raise Failure(wrapped(cause), as_json=as_json) from cause
    except KeyboardInterrupt as cause:
        hint = "The database is as it was, or finished: never in between. `dbsync status` tells; it may be run again."
        stopped = Stopped(operation="finish", cause="it was interrupted", hint=hint)
        raise Failure(stopped, as_json=as_json) from cause


@contextmanager
def tidy_when_ended() -> Iterator[None]:
    """Unwind as for Ctrl-C when the system asks this process to end.

    A copy of a shop's data must not stay in a temporary folder that nobody clears. Where a run is killed for good, or
    in the middle of one long statement, it stays.
    """
    came: list[int] = []

    def end(number: int) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    with this_platform().termination_handled(end):
        try:
            yield
        except KeyboardInterrupt:
            if came:
                sys.exit(ExitStatus.TERMINATED)
            raise


def stdout() -> TextIO | None:
    """Return where results go; None where a program has none."""
    context = click.get_current_context(silent=True)
    found: TextIO | None = sys.stdout if context is None else context.meta.get(_STDOUT, sys.stdout)
    return found


def tell(line: str) -> None:
    """Print a line of a result. Where that fails, what was done stays done, with its own exit code."""
    stream = stdout()
    if stream is None:
        return
    try:
        say(line, stream)
    except OSError as cause:
        context = click.get_current_context(silent=True)
        if context is not None and not isinstance(cause, BrokenPipeError):
            context.meta[_UNHEARD] = cause.strerror or str(cause)
        # Nothing more is printed, and what is left in the buffer fails no end of the program (docs.python.org, signal).
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

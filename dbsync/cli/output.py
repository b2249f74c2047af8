"""Output of the commands: lines on stdout, errors as sentences and as JSON, interruption, and failures to print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import Any, NoReturn, TextIO

import click

from dbsync.cli.lines import printable, say
from dbsync.cli.table import CLICKS, Sentence
from dbsync.errors import TillkeeperError, interrupts, wrapped
from dbsync.outcomes import ExitStatus
from dbsync.storage.platform import this_platform

_UNHEARD, _STDOUT = "dbsync.unheard", "dbsync.stdout"


class Commands(click.Group):
    """The commands; the exit status reports an answer that could not be printed."""

    answering: frozenset[str] = frozenset()
    """Commands whose only result is their answer: they have failed if it cannot be printed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. A reader that stops (`| head`) is no failure; a full disk is one."""
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


class Failure(Sentence):
    """An error as a sentence for people, and with --json as one document on stdout for programs."""

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
        """Print it on stderr; for programs also on stdout."""
        if self._as_json:
            tell(json.dumps(self._told), exactly=True)
        super().show(file)


class Stopped(TillkeeperError):
    """A person pressed Ctrl-C."""


@contextmanager
def errors_told(*, as_json: bool) -> Iterator[None]:
    """A context that turns whatever a command raises, and Ctrl-C, into sentences and exit codes.

    With JSON on stdout, other output, for example of a migration, goes to stderr.
    """
    meta = click.get_current_context().meta
    meta[_STDOUT] = sys.stdout
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            yield
    except (*CLICKS, GeneratorExit):
        raise
    except BaseException as error:
        if not interrupts(error):
            raise Failure(wrapped(error), as_json=as_json) from error
        hint = "The database is as it was, or finished: never in between. `dbsync status` tells; it may be run again."
        stopped = Stopped(operation="finish", cause="it was interrupted", hint=hint)
        raise Failure(stopped, as_json=as_json) from error


@contextmanager
def tidy_when_ended() -> Iterator[None]:
    """A context that unwinds as for Ctrl-C when the system asks this process to end.

    A copy of a shop's data must not stay in a temporary folder that no program clears. It stays if a run is killed
    without warning, or in the middle of one long statement.
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
    """Return the stream for results; None if the program has no stdout."""
    context = click.get_current_context(silent=True)
    found: TextIO | None = sys.stdout if context is None else context.meta.get(_STDOUT, sys.stdout)
    return found


def tell(line: str, *, exactly: bool = False, tail: str = "", hang: int = 0) -> None:
    """Print a line of a result, exactly as it is for programs; `tail` and `hang` as in `say`.

    If that fails, the work of the command stays done, with its own exit code.
    """
    stream = stdout()
    if stream is None:
        return
    try:
        say(line, stream, exactly=exactly, tail=tail, hang=hang)
    except OSError as cause:
        context = click.get_current_context(silent=True)
        if context is not None and not isinstance(cause, BrokenPipeError):
            context.meta[_UNHEARD] = cause.strerror or str(cause)
        # Nothing more is printed, and the rest of the buffer causes no error at exit (docs.python.org, signal).
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

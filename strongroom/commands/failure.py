"""How a command fails: the reason on stderr as it stands, and an exit code that scripts can use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from protocol.errors import ProtocolError


class Failure(click.ClickException):
    """A refusal or an error of the user's files: exit code 2, the message on stderr without a prefix."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message."""
        click.echo(self.format_message(), file=file, err=file is None)


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Turn what the layers below raise on purpose into a `Failure`; anything else is a bug and keeps its traceback."""
    try:
        yield
    except ProtocolError as error:
        raise Failure(str(error)) from error

"""A bar on stderr for a long log, if a person is looking."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from audit.verify import Progress

_LONG = 2_000  # Entries from which on a terminal gets a progress bar.


@contextmanager
def progress_bar(doing: str = "replaying") -> Iterator[Progress | None]:
    """A bar on stderr for a long log, if a person is looking; `doing` stands before it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn(doing),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= _LONG)

        yield advance

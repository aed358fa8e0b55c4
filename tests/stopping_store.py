"""A store that stops its process at the n-th durable change: what crash tests put between a party and its disk."""

import functools
from collections.abc import Callable

from audit.store import MemoryStore


class Stopped(BaseException):
    """The process is gone: nothing may catch this."""


class StoppingStore:
    """A store that stops its process at the n-th change, before or after it is durable."""

    def __init__(self, inner: MemoryStore, stop_at: int | None, after: bool) -> None:
        self.inner = inner
        self.stop_at = stop_at
        self.after = after
        self.changes = 0

    def change(self, change: Callable[[], None]) -> None:
        self.changes += 1
        if self.changes == self.stop_at and not self.after:
            raise Stopped
        change()
        if self.changes == self.stop_at:
            raise Stopped

    def write(self, name: str, data: bytes) -> None:
        self.change(functools.partial(self.inner.write, name, data))

    def delete(self, name: str) -> None:
        self.change(functools.partial(self.inner.delete, name))

    def create(self, name: str, size: int) -> "StoppingSink":
        return StoppingSink(self, self.inner.create(name, size))

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


class StoppingSink:
    """Its sink, which counts when it takes its name."""

    def __init__(self, store: StoppingStore, inner: object) -> None:
        self.store = store
        self.inner = inner

    def commit(self) -> None:
        self.store.change(self.inner.commit)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

"""Names of parametrised cases: short, and the same in every process, whatever random keys a case is made with."""

from collections.abc import Mapping


def named(value: object) -> str:
    """A string by itself, a function or class by its name, a mapping by its keys; everything else by its type."""
    if isinstance(value, str):
        return value[:80]
    if isinstance(value, int | None):
        return str(value)
    if isinstance(value, Mapping):
        return "+".join(map(str, value))[:80]
    return getattr(value, "__name__", type(value).__name__)

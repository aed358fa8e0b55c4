"""The front door: command line and Python API.

    with strongroom.silo("silo.toml") as silo:
        for round in silo.rounds():
            …

`import strongroom` is light: the names below are imported when they are used, and bring torch and grpc with them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from silo_client.opening import silo
    from strongroom.simulation import simulate

__all__ = ["silo", "simulate"]

_HOMES = {"silo": "silo_client.opening", "simulate": "strongroom.simulation"}


def __getattr__(name: str) -> object:
    """Import a name of the API when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'strongroom' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The API's names, without importing them."""
    return sorted({*globals(), *__all__})

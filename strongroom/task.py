"""Run a person's own training file: `strongroom agreement model TASK.py`, `strongroom silo train TASK.py`.

The file's folder goes first on `sys.path`, as Python does for a script. A `protocol.py` or `audit/` lying there must
not take the place of ours, so ours are imported before, and it is checked that they are ours.
"""

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from protocol.errors import ProtocolError

if TYPE_CHECKING:
    from torch import nn

MODULE_NAME = "strongroom_task"
PACKAGES = ("attestation", "protocol", "audit", "appliance", "silo_client", "strongroom")


class TaskError(ProtocolError):
    """The file can't be run or lacks what it must define. If its own code failed, the message ends in its traceback."""


def load_task(path: Path) -> ModuleType:
    """Execute a Python file as the module `strongroom_task` and return it; raises `TaskError`.

    The file is trusted as any program that its owner runs. Its `if __name__ == "__main__":` part does not run.
    """
    claim_package_names()
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except OSError as error:
        raise TaskError(f"{path}: expected a readable file, found {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:
        raise TaskError(f"{path}: expected Python, found {error}") from error
    task = ModuleType(MODULE_NAME)
    task.__file__ = str(path)
    folder = str(path.resolve().parent)
    sys.modules[MODULE_NAME] = task
    sys.path.insert(0, folder)
    try:
        exec(code, task.__dict__)  # noqa: S102  the user's own program, run at his request
    except (Exception, SystemExit) as error:
        raise TaskError(_failure(path, error)) from error
    return task


def build_model(path: Path, seed: int) -> "nn.Module":
    """The module that a task's `build_model()` returns, its random weights drawn from `seed`; raises `TaskError`."""
    import torch

    torch.manual_seed(seed)
    expected = f"{path}: expected a function build_model() that returns the torch.nn.Module to train"
    factory = getattr(load_task(path), "build_model", None)
    if not callable(factory):
        raise TaskError(f"{expected}, found {'none' if factory is None else repr(factory)[:80]}")
    try:
        module = factory()
    except (Exception, SystemExit) as error:
        raise TaskError(_failure(path, error)) from error
    if not isinstance(module, torch.nn.Module):
        raise TaskError(f"{expected}, found one that returns {type(module).__name__}")
    return module


def claim_package_names() -> None:
    """Import our packages before the user's folder can shadow them; raises `TaskError` if it is too late."""
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        found = getattr(importlib.import_module(name), "__file__", None)
        if found is None or Path(found).resolve().parent.parent != home:
            raise TaskError(f"package {name!r}: expected Strongroom's own in {home}, found {found}; rename yours")


def _failure(path: Path, error: BaseException) -> str:
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    shown = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    message = f"{path}: expected it to run, found {type(error).__name__}\n{shown}"
    if isinstance(error, ImportError):
        folder = path.resolve().parent
        taken = [name for name in PACKAGES if (folder / name).is_dir() or (folder / f"{name}.py").exists()]
        if taken:
            message += f"\n{taken[0]!r} beside it has the name of one of Strongroom's packages: rename yours"
    return message

"""Run a training script as `__main__`, watch the silo's session in it, and end with a telling exit code."""

import contextlib
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from protocol.errors import ProtocolError
from silo_client.model import ModelError
from silo_client.opening import under_command
from silo_client.optimizer import TrainingError
from strongroom.commands.silo_exit import failure_of
from strongroom.commands.silo_watch import Watcher, watching
from strongroom.task import TaskError, claim_package_names

_FAILED = 1
# Mistakes of the script itself: its author wants to see the line.
_OF_THE_SCRIPT = (TrainingError, ModelError)


def run(task: Path, arguments: Sequence[str], *, config: Path | None, as_json: bool) -> int:
    """Run the script with these arguments; returns the exit code."""
    try:
        claim_package_names()
        compile(task.read_bytes(), str(task), "exec", dont_inherit=True)
    except OSError as error:
        return _say(f"{task}: expected a readable file, found {error.strerror or error}", 2)
    except (SyntaxError, ValueError) as error:
        return _say(f"{task}: expected Python, found {error}", 2)
    except TaskError as error:
        return _say(str(error), 2)

    with (
        watching(as_json=as_json) as watcher,
        under_command(config=config, observer=watcher),
        _as_script(task, arguments, to_stderr=as_json),
    ):
        return _outcome(task, watcher)


def _outcome(task: Path, watcher: Watcher) -> int:
    try:
        runpy.run_path(str(task), run_name="__main__")
    except SystemExit as error:
        return _exit_code(error)
    except ProtocolError as error:
        if isinstance(error, _OF_THE_SCRIPT):
            return _show(task, error)
        watcher.refused(error)
        return failure_of(error).exit_code
    except Exception as error:
        return _show(task, error)
    return 0


@contextlib.contextmanager
def _as_script(task: Path, arguments: Sequence[str], *, to_stderr: bool) -> Iterator[None]:
    """`sys.argv` and `sys.path` as Python sets them for a script; its prints go to stderr beside JSON lines."""
    argv, path = sys.argv, list(sys.path)
    sys.argv = [str(task), *arguments]
    sys.path.insert(0, str(task.resolve().parent))
    try:
        with contextlib.redirect_stdout(sys.stderr) if to_stderr else contextlib.nullcontext():
            yield
    finally:
        sys.argv, sys.path[:] = argv, path


def _exit_code(error: SystemExit) -> int:
    """What Python makes of a script's `sys.exit(…)`."""
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    return _say(str(error.code), _FAILED)


def _show(task: Path, error: Exception) -> int:
    """The traceback from the script's first line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(task):
        trace = trace.tb_next
    shown = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    return _say(shown.rstrip(), _FAILED)


def _say(message: str, exit_code: int) -> int:
    click.echo(message, err=True)
    return exit_code

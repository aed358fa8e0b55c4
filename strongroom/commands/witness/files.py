"""A witness's files: `witness.toml`, its key, and its state, which one process at a time may hold.

Per key, what somebody gains who may change the settings:

`name`, `key`  another witness, whose lines nobody counts.
`state`        an older copy: the one thing that makes a witness lie. It lies on a disk that nobody sets back.
`listen`       logs don't find it.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from audit.note import VerifierKey
from audit.store import DirectoryStore
from audit.witnessing.state import WitnessState
from protocol.agreement_toml import AgreementError, read_tables, toml_string
from protocol.errors import ProtocolError
from protocol.fields import Fields
from protocol.keys import SigningKey
from silo_client.identity import read_identity
from strongroom.commands.failure import Failure

CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("witness.toml"),
    show_default=True,
    help="The witness's settings.",
)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):(0|[1-9][0-9]{0,4})", re.ASCII)


class WitnessConfigError(ProtocolError):
    """A `witness.toml` that can't be one: a line that names file, key, what was expected and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessConfig:
    """Absolute paths; `name` is the key's (C2SP signed-note), `listen` host and port."""

    name: str
    key: Path
    state: Path
    listen: tuple[str, int]

    @classmethod
    def parse(cls, data: bytes, file: Path) -> "WitnessConfig":
        """Read the file's bytes; paths in it are relative to its folder. Raises `WitnessConfigError` only."""
        try:
            tables = read_tables(data, file.name)
        except AgreementError as error:
            raise WitnessConfigError(str(error)) from error
        folder = file.absolute().parent
        root = Fields(tables, f"{file.name}:", WitnessConfigError, " ")
        config = cls(
            name=root.text("name"),
            key=folder / root.text("key", limit=4096),
            state=folder / root.text("state", limit=4096),
            listen=_listen(root),
        )
        root.close()
        return config

    @classmethod
    def load(cls, file: Path) -> "WitnessConfig":
        """Read the file; raises `WitnessConfigError`, or `Failure` if it can't be read."""
        try:
            return cls.parse(file.read_bytes(), file)
        except OSError as error:
            found = error.strerror or error
            raise Failure(f"{file}: expected settings, found {found}; `strongroom witness init` makes them") from error

    def read_key(self) -> tuple[SigningKey, VerifierKey]:
        """The private key and, under the witness's name, the public one; raises `ProtocolError`."""
        key = read_identity(self.key)
        return key, VerifierKey.of_cosigner(self.name, key.public)

    @contextmanager
    def hold_state(self, key: VerifierKey) -> Iterator[WitnessState]:
        """The state, for this process alone; raises `ProtocolError`, `Failure` if another process holds it."""
        with _held(self.state):
            store = DirectoryStore(self.state)
            store.settle()
            yield WitnessState.open(store, key)


def render_settings(*, name: str, listen: str) -> str:
    """The `witness.toml` that `init` writes."""
    return (
        "# A witness's settings (`strongroom witness serve`). Paths are relative to this file.\n"
        "# Keep `state` on a disk that nobody sets back to an older copy: a witness that forgot can be made to lie.\n\n"
        f"name = {toml_string(name)}\n"
        'key = "witness.key"\n'
        'state = "state"\n'
        f"listen = {toml_string(listen)}\n"
    )


def parse_listen(text: str) -> tuple[str, int] | None:
    """Host and port of `host:port`, or None."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > 65_535:
        return None
    return match[1].strip("[]"), int(match[2])


def _listen(root: Fields) -> tuple[str, int]:
    text = root.text("listen")
    listen = parse_listen(text)
    if listen is None:
        raise root.error("listen", '"host:port" with a port from 0 to 65535', text)
    return listen


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(
            f"{folder}: expected a witness's state, found {error.strerror}; a witness that lost it cosigns no more: "
            "begin another one, with a new key (strongroom witness init)"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(
                f"{folder}: expected to be alone, found another process that holds it; stop the witness first"
            ) from error
        yield
    finally:
        os.close(descriptor)

"""The composition root of a silo: real files, real sockets, the system's clock and randomness.

`strongroom.silo(…)` and the `strongroom silo` commands start here; nothing else in this package makes an effect that it
wasn't handed.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from attestation.collect.choose import open_platform
from attestation.collect.errors import CollectError
from attestation.collect.machine import this_machine
from attestation.collect.measurement import NotMeasurable
from attestation.collect.platform import Platform
from audit.store import DirectoryStore, make_durable_folder
from protocol.agreement import Agreement, SiloTerms
from silo_client.bodies import BodyFormat
from silo_client.config import SiloConfig, SiloConfigError, SiloFiles
from silo_client.courier import Courier
from silo_client.events import Observer, Silent
from silo_client.grpc_channel import GrpcChannel
from silo_client.initial_model import read_initial_model
from silo_client.kept_model import KeptModels
from silo_client.machine import SiloMachine
from silo_client.model import ModelError, Sections
from silo_client.notice import say_if_simulated
from silo_client.session import Silo
from silo_client.state import SiloState

DEFAULT_CONFIG = "silo.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """What `strongroom silo train` says to the `strongroom.silo(…)` in the script that it runs."""

    config: Path | None
    observer: Observer


_command: ContextVar[_Command | None] = ContextVar("strongroom_silo_command", default=None)


@contextmanager
def under_command(*, config: Path | None, observer: Observer) -> Iterator[None]:
    """While a command runs a script: the config that it was given takes the place of the script's, and it watches."""
    token = _command.set(_Command(config=config, observer=observer))
    try:
        yield
    finally:
        _command.reset(token)


def silo(config: str | os.PathLike[str] | None = None, *, observer: Observer | None = None) -> Silo:
    """Open a silo's session: `with strongroom.silo("silo.toml") as silo: …`.

    `config` is the path of a `silo.toml` (by default the one in the current folder; `strongroom silo train --config`
    comes before either). Raises `SiloConfigError` or `AgreementError` before anything is sent.
    """
    command = _command.get()
    path = Path(config if config is not None else DEFAULT_CONFIG)
    if command is not None and command.config is not None:
        path = command.config
    if observer is None:
        observer = Silent() if command is None else command.observer
    opened = Opened.load(SiloConfig.load(path))
    say_if_simulated(opened.agreement)
    release = _lock(opened.config)
    try:
        machine = opened.machine()
        courier = opened.courier(machine, observer, background=True)
    except BaseException:
        release()
        raise
    form = BodyFormat(
        agreement=opened.files.agreement,
        layout=opened.files.layout,
        silo=opened.config.name,
        identity=opened.files.identity,
        random=os.urandom,
    )
    return Silo(
        machine=machine,
        courier=courier,
        form=form,
        observer=observer,
        models=opened.models(machine.state),
        release=release,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A silo's files, read and checked, and what is built on them."""

    config: SiloConfig
    files: SiloFiles

    @classmethod
    def load(cls, config: SiloConfig) -> "Opened":
        """Read what `silo.toml` points to; raises `SiloConfigError`, `AgreementError`, `IdentityError`."""
        return cls(config=config, files=SiloFiles.load(config))

    @property
    def agreement(self) -> Agreement:
        """The silo's own copy."""
        return self.files.agreement

    def state(self) -> SiloState:
        """The silo's durable state; raises `StateError`."""
        store = DirectoryStore(self.config.state)
        store.settle()
        return SiloState.open(store, agreement=self.agreement.digest, silo=self.config.name)

    def machine(self) -> SiloMachine:
        """The machine over the silo's state."""
        return SiloMachine(
            agreement=self.agreement,
            silo=self.config.name,
            identity=self.files.identity,
            platform=_platform(self.agreement.silo(self.config.name), self.config),
            state=self.state(),
            clock=_now,
            random=os.urandom,
        )

    def channel(self) -> GrpcChannel:
        """The way to the appliance."""
        return GrpcChannel(
            enrolment=self.config.enrolment,
            federation=self.config.federation,
            scratch=self.config.state / "downloads",
        )

    def models(self, state: SiloState) -> KeptModels:
        """The models that this silo can hand to the appliance."""
        return KeptModels(
            state=state,
            layout=self.files.layout,
            agreed=self.agreement.model.initial,
            initial=_reader(self),
            keeps=self.config.keep_model,
        )

    def courier(self, machine: SiloMachine, observer: Observer, *, background: bool) -> Courier:
        """The courier over gRPC."""
        return Courier(machine=machine, channel=self.channel(), observer=observer, clock=_now, background=background)


@contextmanager
def alone(config: SiloConfig) -> Iterator[None]:
    """Be the one process that uses the silo's state; raises `SiloConfigError` if there is another."""
    release = _lock(config)
    try:
        yield
    finally:
        release()


def _lock(config: SiloConfig) -> Callable[[], None]:
    try:
        make_durable_folder(config.state, 0o700)
        descriptor = os.open(config.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise config.error("state", "a folder to write to", f"{config.state}: {error.strerror}") from error
    try:
        # Two processes with one state would witness two histories.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise config.error(
            "state", "a folder that no other process of this silo uses", f"{config.state}, which one uses now"
        ) from error
    return lambda: os.close(descriptor)


def _platform(terms: SiloTerms, config: SiloConfig) -> Platform | None:
    if not terms.needs_evidence:
        return None
    try:
        return open_platform(terms.reference_values, machine=this_machine(), endorsements=config.endorsements)
    except (CollectError, NotMeasurable) as error:
        raise SiloConfigError(f"{config.file.name}: {terms.name}: {error}") from error


def _reader(opened: Opened) -> Callable[[], Sections] | None:
    path = opened.config.initial_model
    if path is None:
        return None

    def read() -> Sections:
        try:
            return read_initial_model(path, opened.files.layout, opened.agreement.model.initial)
        except ModelError as error:
            # The silo's own file, not its script, is what is wrong.
            raise SiloConfigError(f"{opened.config.file.name}: initial_model: {error}") from error

    return read


def _now() -> int:
    return int(time.time())

"""A silo that a test drives step by step against an appliance: the client's own machine, courier and channel.

It enrols, cosigns, sends the initial model, comes back and learns outcomes by itself. What it trained, and what becomes
of that before it is sent, is the test's.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from memory_federation import signing_key
from process_federation import Ports, ProcessFederation
from torch import Tensor

from attestation.collect.measurement import installed_code, measure
from attestation.collect.platform import SimulatedPlatform
from audit.store import DirectoryStore
from protocol.credentials import pem_of
from protocol.errors import RefusedError
from protocol.layout import Layout, Section
from protocol.sealing import BlobKind, ByteSource
from protocol.update import UpdateMetadata
from silo_client import courier
from silo_client.bodies import BodyFormat, body_limit_bytes, open_body, read_control, seal_initial, seal_update
from silo_client.channel import Credential
from silo_client.config import Address
from silo_client.courier import ClosedError, Courier
from silo_client.events import Event
from silo_client.grpc_channel import GrpcChannel
from silo_client.initial_model import read_initial_model
from silo_client.machine import Finish, SealedBody, SendInitial, SiloMachine, Train
from silo_client.model import Sections
from silo_client.state import SealedUpdate, SiloState

# An appliance that a test has killed is back in seconds.
courier._LONGEST_PAUSE_SECONDS = min(courier._LONGEST_PAUSE_SECONDS, 0.5)
_LOCAL = "127.0.0.1"
_Random = Callable[[int], bytes]


class DrivenSilo:
    """One silo; its files lie where its process would have them. Close it."""

    def __init__(
        self,
        made: ProcessFederation,
        name: str,
        ports: Ports,
        *,
        machine_random: _Random = os.urandom,
        body_random: _Random = os.urandom,
    ) -> None:
        """`machine_random` makes nonces and the sealing key's seed; `body_random` upload ids and content keys."""
        self.name = name
        self.folder = made.folder / name
        self.events: list[Event] = []
        self.finish: Finish | None = None
        self.error: BaseException | None = None
        self._task: Train | None = None
        agreement, identity = made.agreement, signing_key(name)
        self._layout = Layout.parse((self.folder / "layout.json").read_bytes())
        self._initial = made.folder / "initial.safetensors"
        self.state = SiloState.open(DirectoryStore(self.folder / "state"), agreement=agreement.digest, silo=name)
        self.form = BodyFormat(
            agreement=agreement, layout=self._layout, silo=name, identity=identity, random=body_random
        )
        self.machine = SiloMachine(
            agreement=agreement,
            silo=name,
            identity=identity,
            platform=SimulatedPlatform(measure(installed_code())),
            state=self.state,
            clock=_now,
            random=machine_random,
        )
        channel = _ShowingChannel(
            enrolment=Address(host=_LOCAL, port=ports.enrolment),
            federation=Address(host=_LOCAL, port=ports.federation),
            scratch=self.downloads,
        )
        channel.shown = self.folder / "credential.pem"
        self._courier = Courier(machine=self.machine, channel=channel, observer=self, clock=_now, background=True)
        self._courier.start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave."""
        self._courier.close()
        self._thread.join()

    # Rounds

    def newest(self) -> Train | None:
        """The round to train that was announced, and verified, last; raises what the silo failed of."""
        if self.error is not None:
            raise self.error
        return self._task

    def seal(self, task: Train, sections: Sections, metadata: UpdateMetadata, **changes: object) -> SealedUpdate:
        """Seal an update, and c_i⁺, to the round's key; `changes` are to what the round is believed to be."""
        control = read_control(self.state, self._layout).add_(sections[Section.PARAMETERS])
        opened = replace(task.entry, **changes)  # type: ignore[arg-type]
        return seal_update(sections, control, metadata, opened=opened, state=self.state, form=self.form)

    def submit(self, update: SealedUpdate) -> None:
        """Hold a sealed update, send it, and check its receipt."""
        if not self.machine.hold(update):
            raise AssertionError(f"{self.name}: the attempt is over")
        answer = self._courier.upload(update.upload_id, self.state.open_pending, lambda: True)
        self.machine.accepted(update, answer or b"")

    def refusal_of(self, update: SealedUpdate) -> str:
        """Send a sealed update, without holding it, and be refused: the words that the silo's user reads."""
        path = self.state.path(update.blob)
        try:
            self._courier.upload(update.upload_id, lambda: self.state.files.open(path), lambda: True)
        except RefusedError as error:
            return str(error)
        raise AssertionError(f"{self.name}: the update was accepted")

    @property
    def downloads(self) -> Path:
        """Where bodies lie while they are used."""
        return self.folder / "state" / "downloads"

    def path_of(self, update: SealedUpdate) -> Path:
        """Where the sealed update lies."""
        return self.folder / "state" / self.state.path(update.blob)

    def download(self, body: SealedBody, kind: BlobKind) -> ByteSource:
        """A model or control as it comes."""
        return self._courier.download(body.name, body_limit_bytes(self._layout, kind))

    def open(self, source: ByteSource, task: Train) -> dict[Section, Tensor]:
        """What is in a round's model."""
        return open_body(source, task.model, BlobKind.MODEL, task.entry.model, self.form)[0]

    # The observer

    def event(self, event: Event) -> None:
        self.events.append(event)

    def step(self, *, round_number: int, done: int, total: int) -> None:
        """There are none."""

    # Its thread

    def _run(self) -> None:
        try:
            while self.finish is None:
                task = self._courier.take()
                if isinstance(task, Train):
                    self._task = task
                elif isinstance(task, SendInitial):
                    self._send_initial()
                elif isinstance(task, Finish):
                    self.finish = task
        except ClosedError:
            return
        except BaseException as error:
            self.error = error

    def _send_initial(self) -> None:
        content, state, enrolled = self.form.agreement.model.initial, self.state, self.machine.enrolled
        upload_id, name = seal_initial(
            read_initial_model(self._initial, self._layout, content),
            boot_id=enrolled.boot_id,
            recipient=enrolled.keys.sealing_key,
            state=state,
            form=self.form,
        )
        self._courier.upload(upload_id, lambda: state.files.open(state.path(name)), lambda: True)


class _ShowingChannel(GrpcChannel):
    """Writes every credential to a file before it is used, for recorders that end TLS."""

    shown: Path

    def connect(self, credential: Credential) -> None:
        unfinished = self.shown.with_suffix(".new")
        unfinished.write_bytes(credential.key.private_pem() + pem_of(credential.certificate))
        unfinished.replace(self.shown)
        super().connect(credential)


def _now() -> int:
    return int(time.time())

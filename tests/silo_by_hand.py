"""Silos that a test drives step by step against a real appliance, over real sockets: honest ones, and what isn't.

Each is the product's own machine, channel and sealing code; what a test wants to be wrong it takes apart with `seal`,
or says on the wire itself (`Wire`). They live in the test's process, so that a silo costs nothing.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import grpc
import torch
from memory_federation import signing_key
from process_federation import PATIENCE_SECONDS, Ports, ProcessFederation

from attestation.collect.platform import Platform, SimulatedPlatform
from audit.entries import RoundOpened
from audit.store import MemorySource, MemoryStore
from protocol.errors import ProtocolError
from protocol.keys import SealingPublicKey, SigningKey
from protocol.layout import Layout, Section
from protocol.sealing import BlobHeader, BlobKind, BlobWriter, ContentKey, MemoryBytes, wrap_content_key
from protocol.update import UpdateMetadata
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import UPLOAD, upload_metadata
from silo_client.bodies import BodyFormat, seal_initial
from silo_client.channel import Credential
from silo_client.config import Address
from silo_client.grpc_channel import _OPTIONS, GrpcChannel, _certificate_at
from silo_client.initial_model import read_initial_model
from silo_client.machine import Finish, Ignore, Resume, Send, SendInitial, SiloMachine, Train
from silo_client.model import Sections, allocate_sections, chunk_view
from silo_client.state import SealedUpdate, SiloState

Step = Train | Finish | Resume


class HandSilo:
    """One silo. `steps`: what it was told to do and hasn't done; `errors`: what ended its sessions."""

    def __init__(self, made: ProcessFederation, name: str, *, ports: Ports | None = None) -> None:
        self.made = made
        self.name = name
        self.identity = signing_key(name)
        self.ports = ports or made.ports
        self.layout = Layout.parse((made.folder / "layout.json").read_bytes())
        self.platform: Platform = SimulatedPlatform(made.agreement.appliance[0].measurements[0])
        self.machine = SiloMachine(
            agreement=made.agreement,
            silo=name,
            identity=self.identity,
            platform=self.platform,
            state=SiloState.open(MemoryStore(), agreement=made.agreement.digest, silo=name),
            clock=lambda: int(time.time()),
            random=os.urandom,
        )
        self.form = BodyFormat(
            agreement=made.agreement, layout=self.layout, silo=name, identity=self.identity, random=os.urandom
        )
        self.channel = GrpcChannel(
            enrolment=Address(host="127.0.0.1", port=self.ports.enrolment),
            federation=Address(host="127.0.0.1", port=self.ports.federation),
            scratch=made.folder / name / "downloads",
        )
        self.steps: list[Step] = []
        self.errors: list[ProtocolError] = []

    # Enrolment and session

    def enrol(self) -> Credential:
        """Hello, Welcome, Enrol, Admitted."""
        welcome = self.channel.hello(self.machine.hello())
        return self.machine.admitted(self.channel.enrol(self.machine.welcome(welcome))).credential

    def join(self) -> None:
        """Enrol and open a session."""
        self.channel.connect(self.enrol())
        self.channel.send(self.machine.join())

    def leave(self) -> None:
        """End the session."""
        self.channel.close()

    def turn(self) -> bool:
        """Handle one message, if there is one: cosign, send the initial model, note what is to be done."""
        message = self.channel.receive(0)
        if message is None:
            return False
        step = self.machine.handle(message)
        if isinstance(step, Send):
            self.channel.send(step.message)
        elif isinstance(step, SendInitial):
            self._send_initial()
        elif isinstance(step, Train | Finish | Resume):
            self.steps.append(step)
        elif not isinstance(step, Ignore):
            raise TypeError(f"{self.name}: unexpected {step!r}")
        return True

    def _send_initial(self) -> None:
        sections = read_initial_model(
            self.made.folder / "initial.safetensors", self.layout, self.made.agreement.model.initial
        )
        enrolled, state = self.machine.enrolled, self.machine.state
        upload_id, name = seal_initial(
            sections, boot_id=enrolled.boot_id, recipient=enrolled.keys.sealing_key, state=state, form=self.form
        )
        self.channel.upload(upload_id, state.files.open(state.path(name)))

    # Rounds

    @property
    def opened(self) -> RoundOpened | None:
        """The newest announced attempt that this silo has to train for."""
        newest = next((step for step in reversed(self.steps) if isinstance(step, Train)), None)
        return None if newest is None else newest.entry

    def good(self, **changes: object) -> "Sealed":
        """A good update for the newest attempt, with header fields or how it is sealed changed."""
        assert self.opened is not None, f"{self.name} was told of no round"
        return seal(self, self.opened, vectors(self.layout), **changes)

    def submit(self, sealed: "Sealed | None" = None) -> bytes:
        """Upload a good update for the newest attempt, or this one, and check its receipt; returns its upload id."""
        sealed = sealed or self.good()
        update = self.hold(sealed)
        self.machine.accepted(update, self.upload(sealed.blob, sealed.header.upload_id))
        return sealed.header.upload_id

    def hold(self, sealed: "Sealed") -> SealedUpdate:
        """Remember an update as the one whose outcome the next announcement has to tell."""
        header = sealed.header
        update = SealedUpdate(
            round=header.round,
            attempt=header.attempt,
            boot_id=header.boot_id,
            upload_id=header.upload_id,
            digest=sealed.digest,
            blob=self.machine.state.update_name(header.upload_id),
            control=None,
        )
        assert self.machine.hold(update)
        return update

    def upload(self, blob: bytes, upload_id: bytes | None = None) -> bytes:
        """Upload any bytes, under any upload id; raises what the appliance refuses."""
        return self.channel.upload(upload_id or os.urandom(16), MemorySource("blob", blob))

    def wire(self) -> "Wire":
        """The federation port under this silo's credential."""
        return Wire(self.ports, self.machine.enrolled.credential)


def drive(silos: Iterable[HandSilo], until: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Let silos take their turns until something has come about."""
    deadline = time.monotonic() + seconds
    present = list(silos)
    while not until():
        moved = [silo.turn() for silo in present]
        if not any(moved):
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
            time.sleep(0.005)


# Sealing by hand


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """An update as it was sealed: the sender's own knowledge, content key included."""

    blob: bytes
    digest: bytes
    header: BlobHeader
    key: ContentKey = field(repr=False)


UNSIGNED = " (so says the appliance, unsigned)"
"""How every refusal ends that came over the wire."""
CANARY = 0
"""The parameter that no good update moves."""


def vectors(layout: Layout, value: float = 0.01, *, canary: float = 0.0) -> dict[Section, torch.Tensor]:
    """An update whose parameters are all `value` but for the canary, and whose buffers are zero."""
    sections = allocate_sections(layout, tuple(Section))
    sections[Section.PARAMETERS].fill_(value)
    sections[Section.PARAMETERS][CANARY] = canary
    return sections


def seal(
    silo: HandSilo,
    entry: RoundOpened,
    sections: Sections,
    *,
    metadata: bytes | None = None,
    signer: SigningKey | None = None,
    recipient: bytes | None = None,
    **changes: object,
) -> Sealed:
    """What `silo_client.bodies.seal_update` does, with metadata, signer, wrap's recipient or header fields changed."""
    header = BlobHeader(
        kind=BlobKind.UPDATE,
        agreement=silo.made.agreement.digest,
        origin=silo.made.agreement.log.origin,
        boot_id=entry.boot_id,
        round=entry.round,
        attempt=entry.attempt,
        sender=silo.name,
        upload_id=os.urandom(16),
        base_model=entry.model,
        layout=silo.layout.digest,
        encoding="float32",
        parent=silo.machine.state.parent,
    )
    header = replace(header, **changes)  # type: ignore[arg-type]
    training = silo.made.agreement.training
    honest = UpdateMetadata(
        steps=training.local_steps, step_size_sum=training.local_steps * training.learning_rate, metrics={"loss": 1.0}
    )
    key, sink, chunks = ContentKey.fresh(os.urandom), MemoryBytes(), silo.layout.update_chunks
    wrap = wrap_content_key(key, header, SealingPublicKey(recipient or entry.round_key))
    writer = BlobWriter(header, chunks, sink, key, wrap, honest.encode() if metadata is None else metadata)
    for chunk in chunks:
        writer.seal_chunk(chunk.index, chunk_view(silo.layout, chunk, sections))
    digest = writer.finish(signer or silo.identity)
    return Sealed(blob=bytes(sink), digest=digest, header=header, key=key)


# The wire itself


class Wire:
    """The federation port, spoken to with nothing of the silo's client in between."""

    def __init__(self, ports: Ports, credential: Credential | None, certificate: bytes | None = None) -> None:
        """`certificate` (PEM, a chain) takes the place of the credential's own; None: no certificate at all."""
        from protocol.credentials import pem_of

        address = Address(host="127.0.0.1", port=ports.federation)
        chain = certificate if credential is None or certificate else pem_of(credential.certificate)
        identity = grpc.ssl_channel_credentials(
            root_certificates=_certificate_at(address),
            private_key=None if credential is None else credential.key.private_pem(),
            certificate_chain=chain,
        )
        # A pool of its own: every `Wire` is a connection of its own.
        options = (*_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        self.channel = grpc.secure_channel(str(address), identity, options=options)
        self.stub = rpc.FederationStub(self.channel)  # type: ignore[no-untyped-call]

    def upload(self, pieces: Iterable[bytes], metadata: Sequence[tuple[str, str]]) -> pb.Reply:
        """An `Upload` with any metadata; raises `grpc.RpcError`."""
        call: grpc.StreamUnaryMultiCallable[bytes, pb.Reply] = self.channel.stream_unary(
            UPLOAD, response_deserializer=pb.Reply.FromString
        )
        return call(iter(pieces), metadata=metadata, timeout=PATIENCE_SECONDS)

    def announced(self, pieces: Iterable[bytes], *, size: int, offset: int = 0) -> pb.Reply:
        """An `Upload` under a new upload id that announces any size and offset."""
        return self.upload(pieces, upload_metadata(upload_id=os.urandom(16), offset=offset, size=size))

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

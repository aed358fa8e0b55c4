"""An appliance that says whatever a test wants, with real keys, real (simulated) evidence and a real log.

It is no enclave: it follows no rules, so that each refusal of a silo can be asked for. `FakeAppliance` speaks; the
functions at the end make the silo that listens.
"""

import os
from dataclasses import dataclass, replace
from hashlib import sha256

import torch
from memory_federation import MEASUREMENT, agreement_for, initial_sections, layout_of, signing_key

from attestation.collect.platform import SimulatedPlatform
from audit.agreed import cosigner_of
from audit.entries import ApplianceStarted, Entry, LogClosed, LogGenesis, RoundOpened, SiloAdmitted
from audit.log import LogWriter
from audit.note import Checkpoint
from audit.store import MemoryStore, Store
from protocol.agreement import Agreement
from protocol.credentials import CertificateAuthority
from protocol.enrolment import (
    ADMITTED_LABEL,
    WELCOME_LABEL,
    Admitted,
    ApplianceKeys,
    Enrol,
    Hello,
    Welcome,
    open_enrolment,
)
from protocol.keys import SEALING_SEED_BYTES, SealingKey, SealingPublicKey, SigningKey
from protocol.layout import Layout, Section
from protocol.sealing import (
    BlobHeader,
    BlobKind,
    BlobWriter,
    ContentKey,
    MemoryBytes,
    ModelKey,
    ModelKeyTerms,
    key_digest,
)
from protocol.session import Announcement, Body, Consistency, CosignRequest, LoggedEntry
from protocol.signed import sign_message, unverified_body
from silo_client.bodies import BodyFormat
from silo_client.machine import SiloMachine
from silo_client.model import Sections, chunk_view
from silo_client.state import SiloState

torch.set_num_threads(1)
NOW = 1_800_000_000
SILO = "silo-0"
ALL = ("silo-0", "silo-1", "silo-2", "silo-3")


def example(**changes: str) -> tuple[Agreement, Layout]:
    """A good agreement of four owners over a model of five parameters; `changes` are replacements in its text."""
    layout = layout_of(5)
    owners = tuple(f"owner-{i}" for i in range(4))
    return agreement_for(layout, owners=owners, replace=changes or None), layout


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedExample:
    """A sealed body as the appliance holds it."""

    blob: MemoryBytes
    digest: bytes
    key: ContentKey


class FakeAppliance:
    """One boot of an appliance with its log; `reboot` makes another on the same log."""

    def __init__(self, agreement: Agreement, layout: Layout, *, log_key: SigningKey | None = None) -> None:
        self.agreement = agreement
        self.layout = layout
        self.log_key = log_key or SigningKey(os.urandom(32))
        self.log = LogWriter.create(MemoryStore(), agreement.log.origin, self.log_key)
        self.boot_id = b""
        self.silo_keys: dict[str, SealingPublicKey] = {}
        self.reboot()

    def reboot(self) -> None:
        """New boot id and keys."""
        self.boot_id = os.urandom(32)
        self.signing = SigningKey(os.urandom(32))
        self.sealing = SealingKey(os.urandom(SEALING_SEED_BYTES))
        self.ca = CertificateAuthority.create("fake", NOW)
        self.keys = ApplianceKeys(
            signing=self.signing.public.raw,
            log=self.log_key.public.raw,
            sealing=self.sealing.public.raw,
            ca=self.ca.public_spki_der,
        )
        self.round_key = SealingKey(os.urandom(SEALING_SEED_BYTES))
        if self.log.size == 0:
            self.append(
                LogGenesis(
                    time=NOW,
                    agreement=self.agreement.digest,
                    origin=self.agreement.log.origin,
                    boot_id=self.boot_id,
                    keys=self.keys,
                    evidence=bytes(32),
                    state=bytes(32),
                    predecessor=None,
                )
            )
        self.append(
            ApplianceStarted(
                time=NOW,
                agreement=self.agreement.digest,
                boot_id=self.boot_id,
                keys=self.keys,
                evidence=bytes(32),
            )
        )

    # The log

    def append(self, *entries: Entry) -> int:
        """Log entries; returns the index of the last."""
        self.log.append([entry.encode() for entry in entries])
        return self.log.size - 1

    def checkpoint(self, *, cosigners: tuple[str, ...] = ()) -> Checkpoint:
        """The newest checkpoint with these silos' cosignatures."""
        checkpoint = Checkpoint.parse(self.log.checkpoint)
        for name in cosigners:
            key = cosigner_of(self.agreement, self.agreement.silo(name))
            checkpoint = checkpoint.with_signatures([checkpoint.cosign(key.name, signing_key(name), time=NOW)])
        return checkpoint

    def consistency(self, head: int) -> Consistency:
        """From the tree of `head` entries to the newest."""
        hashes = self.log.consistency(head, self.log.size) if 0 < head < self.log.size else ()
        return Consistency(size=head, hashes=tuple(hashes))

    def logged(self, index: int) -> LoggedEntry:
        """An entry with its proof in the newest tree."""
        return LoggedEntry(
            index=index, entry=self.log.entry(index), hashes=tuple(self.log.inclusion(index, self.log.size))
        )

    # Enrolment

    def welcome(self, message: bytes, *, signer: SigningKey | None = None, **changes: object) -> bytes:
        """The answer to a `Hello`, with any field changed before it is signed."""
        hello = Hello.parse(unverified_body(message))
        welcome = Welcome(
            agreement=self.agreement.digest,
            origin=self.agreement.log.origin,
            boot_id=self.boot_id,
            keys=self.keys,
            nonce=hello.nonce,
            evidence=b"",
            challenge=os.urandom(32),
            checkpoint=self.log.checkpoint.decode(),
        )
        welcome = replace(welcome, evidence=self.evidence(welcome, hello.nonce))
        welcome = replace(welcome, **changes)  # type: ignore[arg-type]
        return sign_message(signer or self.signing, WELCOME_LABEL, welcome.encode())

    def evidence(self, welcome: Welcome, nonce: bytes, measurement: bytes = MEASUREMENT) -> bytes:
        """Evidence for a welcome's keys over a nonce."""
        return SimulatedPlatform(measurement).evidence(welcome.expected_report_data(nonce)).encode()

    def open(self, sealed: bytes) -> tuple[bytes, Enrol]:
        """The signed enrolment request, and what it says."""
        signed = open_enrolment(sealed, self.boot_id, self.sealing)
        return signed, Enrol.parse(unverified_body(signed))

    def admit(self, sealed: bytes, *, signer: SigningKey | None = None, **changes: object) -> bytes:
        """Admit the silo: the `Admitted` message, with any field changed before it is signed."""
        signed, enrol = self.open(sealed)
        terms = self.agreement.silo(enrol.silo)
        self.silo_keys[enrol.silo] = enrol.keys.sealing_key
        index = self.append(
            SiloAdmitted(
                time=NOW,
                boot_id=self.boot_id,
                silo=enrol.silo,
                owner=terms.owner,
                jurisdiction=terms.jurisdiction,
                tee="simulated",
                request=sha256(signed).digest(),
                expires=NOW + 3600,
            )
        )
        admitted = Admitted(
            silo=enrol.silo,
            boot_id=self.boot_id,
            credential=self.ca.issue(enrol.keys.credential, self.agreement.spiffe_id(enrol.silo), NOW, NOW + 3600),
            expires=NOW + 3600,
            entry=self.log.entry(index),
            receipt=self.log.receipt(index).encode().decode(),
        )
        return sign_message(signer or self.signing, ADMITTED_LABEL, replace(admitted, **changes).encode())  # type: ignore[arg-type]

    def enrol(self, machine: SiloMachine) -> None:
        """Enrol a silo in good order."""
        machine.admitted(self.admit(machine.welcome(self.welcome(machine.hello()))))

    # Rounds

    def opened(self, round_number: int = 1, attempt: int = 1, **changes: object) -> RoundOpened:
        """A good `round.opened` entry with fields changed."""
        training = self.agreement.training
        entry = RoundOpened(
            time=NOW,
            boot_id=self.boot_id,
            round=round_number,
            attempt=attempt,
            round_key=self.round_key.public.raw,
            model=self.agreement.model.initial,
            control=None,
            control_epoch=0,
            strategy=str(training.strategy),
            local_steps=training.local_steps,
            learning_rate=training.learning_rate,
            server_learning_rate=training.server_learning_rate,
            deadline_seconds=self.agreement.federation.round_deadline_seconds,
        )
        return replace(entry, **changes)  # type: ignore[arg-type]

    def closed(self, **changes: object) -> LogClosed:
        """A good `log.closed` entry with fields changed."""
        entry = LogClosed(
            time=NOW,
            boot_id=self.boot_id,
            rounds=self.agreement.federation.rounds,
            model=self.agreement.model.initial,
        )
        return replace(entry, **changes)  # type: ignore[arg-type]

    def seal(
        self,
        sections: Sections,
        kind: BlobKind = BlobKind.MODEL,
        *,
        signer: SigningKey | None = None,
        metadata: bytes = b"{}",
        **changes: object,
    ) -> SealedExample:
        """Seal a body, by the log key unless told."""
        header = BlobHeader(
            kind=kind,
            agreement=self.agreement.digest,
            origin=self.agreement.log.origin,
            boot_id=self.boot_id,
            round=0,
            attempt=0,
            sender="appliance",
            upload_id=os.urandom(16),
            base_model=self.agreement.model.initial,
            layout=self.layout.digest,
            encoding="float32",
            parent=None,
        )
        key, blob = ContentKey.fresh(os.urandom), MemoryBytes()
        chunks = kind.chunks_of(self.layout)
        writer = BlobWriter(replace(header, **changes), chunks, blob, key, metadata=metadata)  # type: ignore[arg-type]
        for chunk in chunks:
            writer.seal_chunk(chunk.index, chunk_view(self.layout, chunk, sections))
        return SealedExample(blob=blob, digest=writer.finish(signer or self.log_key), key=key)

    def model(self) -> SealedExample:
        """The initial model, sealed."""
        return self.seal(initial_sections(self.layout))

    def body(
        self,
        sealed: SealedExample,
        *,
        of: BlobKind = BlobKind.MODEL,
        moment: tuple[int, int] = (1, 1),
        silo: str = SILO,
        signer: SigningKey | None = None,
        **changes: object,
    ) -> Body:
        """A body with its key for one silo, whose terms may be changed."""
        recipient = self.silo_keys[silo]
        terms = ModelKeyTerms(
            kind=of.value,
            body=sealed.digest,
            agreement=self.agreement.digest,
            boot_id=self.boot_id,
            round=moment[0],
            attempt=moment[1],
            recipient=silo,
            recipient_key=key_digest(recipient),
        )
        key = ModelKey.seal(sealed.key, replace(terms, **changes), recipient, signer or self.signing)  # type: ignore[arg-type]
        return Body(name="body", digest=sealed.digest, key=key)

    def announcement(
        self,
        head: int,
        *,
        index: int | None = None,
        outcome: int | None = None,
        cosigners: tuple[str, ...] = ALL,
        model: Body | None = None,
        moment: tuple[int, int] = (1, 1),
        **changes: object,
    ) -> bytes:
        """Announce the newest entry (or `index`) to a silo with this head, with any field changed."""
        announcement = Announcement(
            checkpoint=self.checkpoint(cosigners=cosigners).encode().decode(),
            consistency=self.consistency(head),
            opened=self.logged(self.log.size - 1 if index is None else index),
            outcome=None if outcome is None else self.logged(outcome),
            model=model or self.body(self.model(), moment=moment),
            control=None,
        )
        return replace(announcement, **changes).encode()  # type: ignore[arg-type]

    def cosign_request(self, head: int, **changes: object) -> bytes:
        """Ask for a cosignature of the newest checkpoint."""
        request = CosignRequest(checkpoint=self.log.checkpoint.decode(), consistency=self.consistency(head))
        return replace(request, **changes).encode()  # type: ignore[arg-type]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def silo_machine(agreement: Agreement, store: Store, *, name: str = SILO, clock: Clock | None = None) -> SiloMachine:
    """A silo's machine over a store, which may hold its state of before."""
    return SiloMachine(
        agreement=agreement,
        silo=name,
        identity=signing_key(name),
        platform=SimulatedPlatform(MEASUREMENT),
        state=SiloState.open(store, agreement=agreement.digest, silo=name),
        clock=clock or Clock(),
        random=os.urandom,
    )


def body_format(agreement: Agreement, layout: Layout, name: str = SILO) -> BodyFormat:
    """What the silo's bodies share."""
    return BodyFormat(agreement=agreement, layout=layout, silo=name, identity=signing_key(name), random=os.urandom)


def head_size(machine: SiloMachine) -> int:
    """How many entries the silo has seen."""
    return 0 if machine.state.head is None else machine.state.head.size


def parameters(values: torch.Tensor) -> dict[Section, torch.Tensor]:
    """Sections of an update or control over the parameters."""
    return {Section.PARAMETERS: values}

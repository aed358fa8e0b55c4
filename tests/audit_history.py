"""A small honest history, made of the real pieces, and the means to forge one: for the tests of the audit.

Five silos of four owners (one owner has two), simulated TEEs but for one silo without any, two rounds:

    boot A   enrolments (one refused, and retried), an attempt below the minimum cohort, the first round,
             a second one that a restart interrupts
    boot B   enrolments, the second round, the end

`History` takes every entry of the honest log; a forged one is written by the log's own key all the same, so that only
what the audit knows of the entries' meaning can catch it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from agreement_examples import MEASUREMENT, good_agreement, tee_table
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.collect.platform import SimulatedPlatform
from audit.entries import (
    ApplianceStarted,
    Entry,
    KeyRotated,
    LogClosed,
    LogGenesis,
    LogRecovered,
    RoundAbandoned,
    RoundCommitted,
    RoundOpened,
    RoundPublished,
    SiloAdmitted,
    SiloRefused,
    UpdateAccepted,
    UpdateRefused,
)
from audit.log import LogWriter
from audit.phases import BELOW_MINIMUM_COHORT, RESTART
from audit.replay import History
from audit.store import MemoryStore
from protocol.agreement import Agreement
from protocol.enrolment import ENROL_LABEL, ApplianceKeys, Enrol, SiloKeys
from protocol.keys import SEALING_SEED_BYTES, SealingKey, SigningKey
from protocol.layout import Layout, Role, Tensor
from protocol.signed import sign_message

OWNERS = ("alpenklinik", "alpenklinik", "baltic-bank", "cantone", "delta-telecom")
START = 1_767_225_600
LAYOUT = Layout(tensors=(Tensor(name="weight", shape=(4,), dtype="float32", role=Role.PARAMETER, alias=None),))
PLATFORM = SimulatedPlatform(bytes.fromhex(MEASUREMENT))
OTHER_CODE = SimulatedPlatform(bytes(48))
QUORUM = ("silo-0", "silo-2", "silo-3")


def token(text: str, size: int = 32) -> bytes:
    """Stand-in for random bytes."""
    return sha256(text.encode()).digest()[:size]


@cache
def log_key(name: str) -> SigningKey:
    return SigningKey(token(name))


LOG_KEY = log_key("log")


@cache
def identity(silo: str) -> SigningKey:
    return SigningKey(token(f"identity of {silo}"))


@cache
def sealing(name: str) -> bytes:
    return SealingKey((token(name) * 3)[:SEALING_SEED_BYTES]).public.raw


@cache
def p256(name: str) -> bytes:
    private = ec.derive_private_key(int.from_bytes(token(name)) >> 8, ec.SECP256R1())
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def agreement_text(change: Callable[[str], str] = lambda text: text) -> str:
    """The agreement's text: silo-4 (delta-telecom) has no TEE, two rounds, the keys of this module."""
    text = good_agreement(owners=OWNERS).replace("rounds = 40", "rounds = 2")
    head, table, tail = text.rpartition(tee_table("silo.tee"))
    text = head + '[[silo.tee]]\ntee = "none"\n' + tail if table else text
    for silo in Agreement.parse(text.encode(), "federation.toml").silos:
        text = text.replace(str(silo.identity), str(identity(silo.name).public))
    return change(text.replace("11" * 32, LAYOUT.digest.hex()))


def agreement_of(change: Callable[[str], str] = lambda text: text) -> Agreement:
    return Agreement.parse(agreement_text(change).encode(), "federation.toml")


@dataclass(frozen=True)
class Boot:
    """One boot of the appliance, as far as the log shows it; `log` names its log key, the first unless told."""

    name: str
    log: str = "log"

    @property
    def boot_id(self) -> bytes:
        return token(f"boot {self.name}")

    @property
    def keys(self) -> ApplianceKeys:
        signing = SigningKey(token(f"signing {self.name}")).public.raw
        ca = p256(f"ca {self.name}")
        log = (LOG_KEY if self.log == "log" else log_key(self.log)).public.raw
        return ApplianceKeys(signing=signing, log=log, sealing=sealing(f"boot {self.name}"), ca=ca)


@dataclass(frozen=True)
class Batch:
    """Entries (or a foreign leaf's bytes) that went into the log under one checkpoint, and who cosigned that."""

    entries: tuple[Entry | bytes, ...]
    cosigners: tuple[str, ...] = ()
    successor: str | None = None
    """The log key from this batch on, which its first entry names."""
    lost: bool = False
    """Whether the key before it was lost, and signs this batch no more."""


@dataclass
class Recorder:
    """Writes a history as the enclave does; `forgiving` lets entries through that do not follow."""

    agreement: Agreement
    batches: list[Batch] = field(default_factory=list)
    objects: dict[bytes, bytes] = field(default_factory=dict)
    time: int = START
    uploads: int = 0

    def __post_init__(self) -> None:
        self.history = History(self.agreement)
        self.boot = Boot("A")
        self.put(self.agreement.source)
        self.put(LAYOUT.encode())

    def put(self, data: bytes) -> bytes:
        digest = sha256(data).digest()
        self.objects[digest] = data
        return digest

    def now(self) -> int:
        self.time += 1
        return self.time

    def batch(self, *entries: Entry, cosigners: Iterable[str] = (), successor: str | None = None) -> None:
        for entry in entries:
            self.history.apply(entry)
        self.batches.append(Batch(entries, tuple(cosigners), successor))

    def unattended_evidence(self, purpose: str, boot: Boot, platform: SimulatedPlatform = PLATFORM) -> bytes:
        report_data = boot.keys.unattended_report_data(
            purpose=purpose,
            origin=self.agreement.log.origin,
            agreement=self.agreement.digest,
            boot_id=boot.boot_id,
        )
        return self.put(platform.evidence(report_data).encode())

    def genesis(self) -> LogGenesis:
        return LogGenesis(
            time=self.now(),
            agreement=self.agreement.digest,
            origin=self.agreement.log.origin,
            boot_id=self.boot.boot_id,
            keys=self.boot.keys,
            evidence=self.unattended_evidence("genesis", self.boot),
            predecessor=None,
            state=token("state 0"),
        )

    def started(self) -> ApplianceStarted:
        return ApplianceStarted(
            time=self.now(),
            agreement=self.agreement.digest,
            boot_id=self.boot.boot_id,
            keys=self.boot.keys,
            evidence=self.unattended_evidence("boot", self.boot),
        )

    def rotated(self, boot: Boot) -> KeyRotated:
        """The key entry of a boot whose log key is a new one; the boot is the present one from then on."""
        previous, self.boot = self.boot, boot
        return KeyRotated(
            time=self.now(),
            agreement=self.agreement.digest,
            boot_id=boot.boot_id,
            keys=boot.keys,
            evidence=self.unattended_evidence("rotation", boot),
            previous=previous.keys.log,
            state=token(f"state of {boot.log}"),
        )

    def recovered(self, boot: Boot, *, root: bytes, grants: bytes, model: bytes | None = None) -> LogRecovered:
        """The same after a loss: `grants` is the object's bytes, over the log as it is and its `root`."""
        previous, self.boot = self.boot, boot
        return LogRecovered(
            time=self.now(),
            agreement=self.agreement.digest,
            boot_id=boot.boot_id,
            keys=boot.keys,
            evidence=self.unattended_evidence("recovery", boot),
            previous=previous.keys.log,
            size=self.history.size,
            root=root,
            model=self.history.model if model is None else model,
            grants=self.put(grants),
            state=token(f"state of {boot.log}"),
        )

    def request(
        self,
        silo: str,
        challenge: str,
        /,
        *,
        platform: SimulatedPlatform | None = PLATFORM,
        signer: SigningKey | None = None,
        **changes: bytes | str | SiloKeys,
    ) -> bytes:
        """Digest of a silo's signed enrolment request, evidence included; `changes` are made before the evidence."""
        keys = SiloKeys(identity=identity(silo).public.raw, sealing=sealing(silo), credential=p256(silo))
        enrol = Enrol(
            silo=silo,
            agreement=self.agreement.digest,
            boot_id=self.boot.boot_id,
            appliance=self.boot.keys.signing,
            challenge=token(f"challenge {self.boot.name} {challenge}"),
            keys=keys,
            evidence=None,
        )
        enrol = replace(enrol, **changes)
        if platform is not None:
            enrol = replace(enrol, evidence=platform.evidence(enrol.expected_report_data()).encode())
        return self.put(sign_message(signer or identity(silo), ENROL_LABEL, enrol.encode()))

    def admitted(self, silo: str, *, request: bytes | None = None) -> SiloAdmitted:
        terms, time = self.agreement.silo(silo), self.now()
        if request is None:
            platform = PLATFORM if terms.needs_evidence else None
            request = self.request(silo, f"{silo} {time}", platform=platform)
        return SiloAdmitted(
            time=time,
            boot_id=self.boot.boot_id,
            silo=silo,
            owner=terms.owner,
            jurisdiction=terms.jurisdiction,
            tee="simulated" if terms.needs_evidence else "none",
            request=request,
            expires=time + self.agreement.federation.credential_seconds,
        )

    def refused(self, silo: str, code: str, request: bytes) -> SiloRefused:
        return SiloRefused(time=self.now(), boot_id=self.boot.boot_id, silo=silo, code=code, request=request)

    def opened(self) -> RoundOpened:
        history, training = self.history, self.agreement.training
        return RoundOpened(
            time=self.now(),
            boot_id=self.boot.boot_id,
            round=history.round,
            attempt=history.attempt + 1,
            round_key=sealing(f"round {history.round} {history.attempt + 1}"),
            model=history.model,
            control=history.control,
            control_epoch=history.control_epoch,
            strategy=str(training.strategy),
            local_steps=training.local_steps,
            learning_rate=training.learning_rate,
            server_learning_rate=training.server_learning_rate,
            deadline_seconds=self.agreement.federation.round_deadline_seconds,
        )

    def accepted(self, silo: str) -> UpdateAccepted:
        self.uploads += 1
        return UpdateAccepted(
            time=self.now(),
            round=self.history.round,
            attempt=self.history.attempt,
            silo=silo,
            upload_id=token(f"upload {self.uploads}", 16),
            update=token(f"update {self.uploads}"),
            parent=self.history.parents.get(silo),
        )

    def update_refused(self, silo: str, code: str) -> UpdateRefused:
        self.uploads += 1
        return UpdateRefused(
            time=self.now(),
            round=self.history.round,
            attempt=self.history.attempt,
            silo=silo,
            upload_id=token(f"upload {self.uploads}", 16),
            code=code,
        )

    def abandoned(self, reason: str) -> RoundAbandoned:
        history = self.history
        return RoundAbandoned(time=self.now(), round=history.round, attempt=history.attempt, reason=reason, silo=None)

    def committed(self) -> RoundCommitted:
        history = self.history
        return RoundCommitted(
            time=self.now(),
            round=history.round,
            attempt=history.attempt,
            cohort=history.cohort(),
            privacy_charge=0.0,
        )

    def published(self) -> RoundPublished:
        history = self.history
        return RoundPublished(
            time=self.now(),
            round=history.round,
            attempt=history.attempt,
            model_in=history.model,
            model_out=token(f"model {history.round}"),
            control_in=history.control,
            control_out=token(f"control {history.round}"),
            cohort=history.cohort(),
            state=token(f"state {history.round}"),
        )

    def closed(self) -> LogClosed:
        return LogClosed(
            time=self.now(),
            boot_id=self.boot.boot_id,
            rounds=self.history.published_rounds,
            model=self.history.model,
        )

    def apply_and(self, entry: Entry, following: Callable[[], Entry], cosigners: Iterable[str]) -> None:
        """One batch of an entry and of what the history then says comes next."""
        self.history.apply(entry)
        after = following()
        self.history.apply(after)
        self.batches.append(Batch((entry, after), tuple(cosigners)))

    def record(self) -> None:
        """The whole story of the module's docstring."""
        self.batch(self.genesis(), self.started())
        for silo in ("silo-0", "silo-1", "silo-2"):
            self.batch(self.admitted(silo))
        wrong_code = self.request("silo-3", "wrong code", platform=OTHER_CODE)
        self.batch(self.refused("silo-3", "evidence-refused", wrong_code))
        other_agreement = self.request("silo-3", "other agreement", agreement=token("another agreement"))
        self.batch(self.refused("silo-3", "agreement-mismatch", other_agreement))
        self.batch(self.admitted("silo-3"))
        self.batch(self.admitted("silo-4"))
        # Round 1: one update and a bad one are too few.
        self.batch(self.opened(), cosigners=QUORUM)
        self.batch(self.accepted("silo-0"))
        self.batch(self.update_refused("silo-2", "update-too-large"))
        self.apply_and(self.abandoned(BELOW_MINIMUM_COHORT), self.opened, QUORUM)
        for silo in ("silo-2", "silo-0", "silo-4"):
            self.batch(self.accepted(silo))
        self.batch(self.committed())
        self.apply_and(self.published(), self.opened, ("silo-1", "silo-2", "silo-4"))
        # Round 2: interrupted by a restart.
        self.batch(self.accepted("silo-0"))
        self.boot = Boot("B")
        self.apply_and(self.started(), lambda: self.abandoned(RESTART), ())
        for silo in ("silo-0", "silo-1", "silo-2", "silo-4"):
            self.batch(self.admitted(silo))
        self.batch(self.opened(), cosigners=("silo-0", "silo-1", "silo-2", "silo-4"))
        for silo in ("silo-0", "silo-1", "silo-2"):
            self.batch(self.accepted(silo))
        self.batch(self.committed())
        self.apply_and(self.published(), self.closed, ("silo-0", "silo-2", "silo-4"))


def written(agreement: Agreement, batches: Iterable[Batch], objects: Iterable[bytes]) -> MemoryStore:
    """A store with this log, written and cosigned by the keys that it ought to have, whatever it says."""
    store = MemoryStore()
    writer = LogWriter.create(store, agreement.log.origin, LOG_KEY)
    for data in objects:
        writer.put_object(data)
    for batch in batches:
        leaves = [entry if isinstance(entry, bytes) else entry.encode() for entry in batch.entries]
        successor = None if batch.successor is None else log_key(batch.successor)
        if batch.lost:
            writer = LogWriter.open(store, agreement.log.origin, None, keys=writer.keys)
        checkpoint = writer.append(leaves, successor=successor)
        if batch.cosigners:
            names = [(silo, f"{agreement.log.origin}/{silo}") for silo in batch.cosigners]
            lines = [checkpoint.cosign(name, identity(silo), time=START).encode() for silo, name in names]
            writer.add_cosignatures(checkpoint.size, lines)
    return store


@dataclass(frozen=True)
class Told:
    """A history: the agreement, what was logged, and the objects beside it."""

    agreement: Agreement
    batches: tuple[Batch, ...]
    objects: tuple[bytes, ...]

    def store(self) -> MemoryStore:
        return written(self.agreement, self.batches, self.objects)

    @property
    def entries(self) -> list[Entry | bytes]:
        return [entry for batch in self.batches for entry in batch.entries]

    def index(self, kind: type[Entry], number: int = 0) -> int:
        """The index of the `number`-th entry of a kind; negative numbers count from the end."""
        return [i for i, entry in enumerate(self.entries) if isinstance(entry, kind)][number]

    def until(self, size: int) -> "Told":
        """The history when its log had that many entries."""
        batches, entries = [], 0
        for batch in self.batches:
            entries += len(batch.entries)
            if entries <= size:
                batches.append(batch)
        return replace(self, batches=tuple(batches))

    def with_entries(self, change: Callable[[list[Entry | bytes]], None], *objects: bytes) -> "Told":
        """The same batches and cosigners around changed entries; what is added at the end goes into the last batch."""
        entries = self.entries
        change(entries)
        batches = []
        for batch in self.batches[:-1]:
            count = len(batch.entries)
            batches.append(replace(batch, entries=tuple(entries[:count])))
            entries = entries[count:]
        batches.append(replace(self.batches[-1], entries=tuple(entries)))
        return replace(self, batches=tuple(b for b in batches if b.entries), objects=(*self.objects, *objects))

    def with_fields(self, index: int, *objects: bytes, **changes: object) -> "Told":
        """One entry with other fields, signed for like all others."""

        def change(entries: list[Entry | bytes]) -> None:
            entries[index] = replace(entries[index], **changes)  # type: ignore[type-var]

        return self.with_entries(change, *objects)

    def with_cosigners(self, index: int, cosigners: Iterable[str]) -> "Told":
        """Other cosigners of the batch that holds an entry."""
        batches, position = list(self.batches), 0
        for number, batch in enumerate(batches):
            if position <= index < position + len(batch.entries):
                batches[number] = replace(batch, cosigners=tuple(cosigners))
            position += len(batch.entries)
        return replace(self, batches=tuple(batches))


def honest(agreement: Agreement | None = None) -> Told:
    """The history of the module's docstring."""
    recorder = Recorder(agreement or agreement_of())
    recorder.record()
    return told(recorder)


def told(recorder: Recorder) -> Told:
    return Told(recorder.agreement, tuple(recorder.batches), tuple(recorder.objects.values()))


def to_directory(store: MemoryStore, root: Path) -> Path:
    """The store's files below a folder, which is made."""
    for name in store.list(""):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(name))
    return root

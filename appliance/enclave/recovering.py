"""A start that waits for the silos: the log's key is lost, and only they can let another one go on (record 0026).

    store and new keys ──► RECOVERING ── enough owners' grants ──► log.recovered, appliance.started, …: an `Enclave`
                              │ ▲
                     ask ─ offer, grant ─ standing                 (on the enrolment port)

Until then nothing is written, nobody is admitted and nothing is released: whoever enrols is told to wait. What is in
memory dies with the process: the new keys, which nobody has used, and the grants, which silos give again to the next
start. Called by the gateway's door in the place of the `Enclave` that it becomes. Every method may be called from any
thread.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from appliance.enclave.boot import Boot
from appliance.enclave.key_history import changes_since
from appliance.enclave.ledger import Ledger
from appliance.enclave.machine import Description, Enclave
from appliance.enclave.ports import Ports
from attestation.collect.errors import CollectError
from attestation.report_data import GENESIS
from audit.entries import LogGenesis, LogRecovered
from audit.grants import GrantError, Recovered, newest_held, owners_of, verify_grant, verify_grants
from audit.phases import Phase
from protocol.agreement import Agreement, mismatch
from protocol.appraisal import appraise_appliance
from protocol.errors import MalformedError, ProtocolError, RefusalCode, RefusedError, SignatureError, refuse
from protocol.key_history import CATCHUP_LABEL, Catchup, is_catchup
from protocol.recovery import (
    ASK_LABEL,
    OFFER_LABEL,
    PURPOSE,
    STANDING_LABEL,
    Loss,
    OpenAttempt,
    RecoveryAsk,
    RecoveryGrant,
    RecoveryGrants,
    RecoveryOffer,
    RecoveryStanding,
    is_ask,
    not_recovering,
)
from protocol.sealing import ByteSource
from protocol.signed import open_message, sign_message, unverified_body

RECOVERING = "recovering"
_Asked = TypeVar("_Asked", RecoveryAsk, Catchup)
_OPEN = frozenset({Phase.COLLECTING, Phase.COMMITTED, Phase.INTERRUPTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Granted:
    """A verified grant, and its exact bytes."""

    signed: bytes
    grant: RecoveryGrant


class Recovering:
    """One boot under new keys, before the log is theirs and after."""

    def __init__(
        self,
        *,
        agreement: Agreement,
        boot: Boot,
        ledger: Ledger,
        ports: Ports,
        conclude: Callable[[Recovered, bytes, bytes], Enclave],
    ) -> None:
        """`ledger`: the log as it is, whose key is lost.

        `conclude` takes what was granted, the grants object's bytes and the content digest of the model to go on from.
        It makes the recovery durable, and raises `CollectError`, with nothing changed, where the TEE makes no evidence.
        """
        self._lock = threading.RLock()
        self._agreement = agreement
        self._boot = boot
        self._ledger = ledger
        self._ports = ports
        self._conclude = conclude
        self._recovered = Recovered(
            boot_id=boot.boot_id,
            keys=boot.keys,
            previous=ledger.history.log_key or b"",
            size=ledger.size,
            root=ledger.root,
        )
        self._asked: dict[str, tuple[bytes, ...]] = {}
        self._grants: dict[str, _Granted] = {}
        self._from_witnesses: dict[str, bytes] = {}
        self._size: int | None = None
        self._enclave: Enclave | None = None

    # What the gateway passes on

    def hello(self, message: bytes) -> bytes:
        """Answer a `RecoveryAsk`, or a `Catchup`; raises `RefusedError`. A `Hello` waits until the log is recovered."""
        if (enclave := self._enclave) is not None:
            return enclave.hello(message)
        if is_catchup(message):
            catchup = self._opened(Catchup, CATCHUP_LABEL, message)
            with self._lock:
                return changes_since(self._ledger, catchup).encode()
        if not is_ask(message):
            raise _waits()
        ask = self._opened(RecoveryAsk, ASK_LABEL, message)
        try:
            evidence = self._boot.evidence_for(ask.nonce, PURPOSE).encode()
        except CollectError as error:
            self._ports.event(f"evidence-failed {error}")
            raise _no_evidence() from error
        with self._lock:
            if self._size is not None:
                raise not_recovering()
            return self._offer(ask, evidence)

    def enrol(self, message: bytes) -> bytes:
        """Take a `RecoveryGrant` and say where the recovery stands; with the last one, recover. Raises `RefusedError`.

        A grant that comes again, because the answer was lost, gets its answer again.
        """
        granted = self._granted(message)
        with self._lock:
            if granted is None:
                if self._enclave is None:
                    raise _waits()
            else:
                if self._enclave is None:
                    self._grants[granted.grant.silo] = granted
                    self._recover_if_granted()
                return self._standing()
            enclave = self._enclave
        return enclave.enrol(message)

    def receive(self, silo: str, message: bytes) -> None:
        """A session's message: there are no sessions before the log is recovered."""
        self._require_enclave().receive(silo, message)

    def left(self, silo: str) -> None:
        """A session's end."""
        if self._enclave is not None:
            self._enclave.left(silo)

    def witnessed(self, witness: str, message: bytes) -> None:
        """What a further witness says, kept until there is somebody to hear it; raises `RefusedError`."""
        name = self._agreement.witness(witness).name
        with self._lock:
            if self._enclave is None:
                self._from_witnesses[name] = message
                return
        self._enclave.witnessed(witness, message)

    def witnesses_left(self) -> None:
        """Nobody carries requests to the witnesses any more."""
        with self._lock:
            self._from_witnesses.clear()
            if self._enclave is None:
                return
        self._enclave.witnesses_left()

    def complete(self, silo: str, source: ByteSource) -> bytes:
        """An upload: there are none before the log is recovered."""
        return self._require_enclave().complete(silo, source)

    def describe(self) -> Description:
        """Where the federation stands."""
        if self._enclave is not None:
            return self._enclave.describe()
        with self._lock:
            history = self._ledger.history
            return Description(
                agreement=self._agreement.digest,
                origin=self._boot.origin,
                boot_id=self._boot.boot_id,
                ca_certificate=self._boot.ca.certificate_der,
                simulated=self._agreement.simulated,
                phase=RECOVERING,
                round=history.published_rounds if history.phase is Phase.CLOSED else history.round,
                attempt=history.attempt,
                log_size=self._ledger.size,
                admitted=(),
                joined=(),
                waiting_for=(),
            )

    # Time

    def next_due(self) -> int | None:
        """As `Enclave.next_due`; only messages bring a recovery on."""
        return None if self._enclave is None else self._enclave.next_due()

    def tick(self) -> None:
        """As `Enclave.tick`."""
        if self._enclave is not None:
            self._enclave.tick()

    # The recovery

    def _opened(self, kind: type[_Asked], label: str, message: bytes) -> _Asked:
        """What a silo asks, once it is signed by the identity key that the agreement names."""
        try:
            asked = kind.parse(unverified_body(message))
        except MalformedError as error:
            raise refuse(
                RefusalCode.MALFORMED,
                expected=f"a {kind.KIND}",
                found=str(error),
                remedy="update the silo's software",
            ) from error
        if asked.agreement != self._agreement.digest:
            raise mismatch(self._agreement.digest, asked.agreement)
        identity = self._agreement.silo(asked.silo).identity
        try:
            open_message(identity, label, message, f"{kind.KIND} of {asked.silo}")
        except SignatureError as error:
            raise refuse(
                RefusalCode.IDENTITY_SIGNATURE,
                expected=f"a {kind.KIND} signed by {asked.silo}'s identity key {identity}",
                found="another key's signature",
                remedy="check the silo's name, identity key file and agreement",
            ) from error
        return asked

    def _offer(self, ask: RecoveryAsk, evidence: bytes) -> bytes:
        if ask.head > self._ledger.size:
            raise refuse(
                RefusalCode.LOG_ROLLED_BACK,
                expected=f"silos that know at most the log's {self._ledger.size} entries",
                found=f"{ask.silo}, which knows {ask.head}",
                remedy="the appliance's store is older than what silos have cosigned: restore the newest one",
            )
        self._asked[ask.silo] = ask.models
        offer = RecoveryOffer(
            agreement=self._agreement.digest,
            origin=self._boot.origin,
            boot_id=self._boot.boot_id,
            keys=self._boot.keys,
            nonce=ask.nonce,
            evidence=evidence,
            previous=self._recovered.previous,
            checkpoint=self._ledger.checkpoint_text,
            consistency=self._ledger.consistency(ask.head, self._ledger.size),
            loss=self._loss(ask),
        )
        return sign_message(self._boot.signing, OFFER_LABEL, offer.encode())

    def _loss(self, ask: RecoveryAsk) -> Loss:
        history = self._ledger.history
        attempt = OpenAttempt(round=history.round, attempt=history.attempt) if history.phase in _OPEN else None
        return Loss(
            rounds=history.published_rounds,
            attempt=attempt,
            controls=history.control is not None or bool(history.parents),
            yours=self._newest_round(ask.models),
            held=self._newest_round(model for models in self._asked.values() for model in models),
        )

    def _newest_round(self, models: Iterable[bytes]) -> int | None:
        published = self._ledger.history.models
        return max((published[model] for model in models if model in published), default=None)

    def _granted(self, message: bytes) -> _Granted | None:
        """A grant for this boot, verified; None for what is no grant at all."""
        try:
            grant = RecoveryGrant.parse(unverified_body(message))
        except MalformedError:
            return None
        if grant.boot_id != self._boot.boot_id:
            raise refuse(
                RefusalCode.WRONG_BOOT,
                expected=f"a grant for boot {self._boot.boot_id.hex()[:16]}…",
                found=f"one for boot {grant.boot_id.hex()[:16]}…",
                remedy="the appliance was started again since: run `strongroom silo recover` again",
            )
        try:
            return _Granted(signed=message, grant=verify_grant(self._agreement, self._recovered, message))
        except GrantError as error:
            raise refuse(
                RefusalCode.IDENTITY_SIGNATURE,
                expected="a grant of what was offered, signed by the silo's identity key",
                found=str(error),
                remedy="run `strongroom silo recover` again",
            ) from error

    def _recover_if_granted(self) -> None:
        if len(owners_of(self._agreement, self._grants)) < self._agreement.log.cosigners:
            return
        granted = [self._grants[silo.name] for silo in self._agreement.silos if silo.name in self._grants]
        grants = RecoveryGrants(grants=tuple(each.signed for each in granted)).encode()
        try:
            self._enclave = self._conclude(self._recovered, grants, self._model(granted))
        except CollectError as error:
            self._ports.event(f"evidence-failed {error}")
            raise _no_evidence() from error
        self._size = self._ledger.size
        self._ports.event(f"log-recovered entry={self._recovered.size} grants={len(granted)}")
        for witness, message in self._from_witnesses.items():
            with suppress(ProtocolError):  # Whoever speaks for a witness can make up what it says.
                self._enclave.witnessed(witness, message)
        self._ports.wake()

    def _model(self, granted: list[_Granted]) -> bytes:
        """The newest model that a silo which granted holds; a log that was closed keeps its last one."""
        history = self._ledger.history
        if history.ended:
            return history.model
        held = [model for each in granted for model in each.grant.models]
        return newest_held(history.models, held, self._agreement.model.initial)

    def _standing(self) -> bytes:
        standing = RecoveryStanding(
            boot_id=self._boot.boot_id,
            owners=owners_of(self._agreement, self._grants),
            required=self._agreement.log.cosigners,
            recovered=self._size,
        )
        return sign_message(self._boot.signing, STANDING_LABEL, standing.encode())

    def _require_enclave(self) -> Enclave:
        if self._enclave is None:
            raise _waits()
        return self._enclave


def require_vouched(agreement: Agreement, genesis: LogGenesis, ledger: Ledger) -> None:
    """Require that leaf 0's evidence vouches for the log's first key, and grants for each one after a loss.

    (After a rotation both keys have signed, which was verified when the log was opened.) No defence: silos hold the log
    against the keys and the head that they know. But whoever restores the wrong store should hear it here. Raises
    `ProtocolError`.
    """
    report_data = genesis.keys.unattended_report_data(
        purpose=GENESIS, origin=agreement.log.origin, agreement=agreement.digest, boot_id=genesis.boot_id
    )
    appraise_appliance(ledger.get_object(genesis.evidence), agreement, report_data, genesis.time)
    for _, entry in ledger.history.key_changes:
        if isinstance(entry, LogRecovered):
            verify_grants(agreement, entry, ledger.get_object(entry.grants))


def _waits() -> RefusedError:
    return refuse(
        RefusalCode.BUSY,
        expected="an appliance with the log's key",
        found="one that has lost it and waits for the silos' leave to go on under another",
        remedy="stop this silo and run `strongroom silo recover`; then start it again",
    )


def _no_evidence() -> RefusedError:
    return refuse(
        RefusalCode.BUSY,
        expected="fresh evidence of the appliance's TEE",
        found="a TEE that made none",
        remedy="try again later; the appliance's log says why",
    )

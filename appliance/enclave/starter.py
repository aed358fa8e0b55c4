"""One start of the enclave, step by step: log, key and state, opened or made anew, and the boot's entries.

Called by `appliance.enclave.startup`, which says what each error means.
"""

from dataclasses import dataclass, replace

from appliance.enclave.bodies import Bodies, BodyError
from appliance.enclave.boot import Boot
from appliance.enclave.closing import Closing
from appliance.enclave.ledger import Ledger
from appliance.enclave.machine import Enclave
from appliance.enclave.ports import Ports
from appliance.enclave.recovering import Recovering, require_vouched
from appliance.enclave.rotation import rotate
from appliance.enclave.sealed_state import EnclaveState, StateError, StateVault
from appliance.enclave.succession import Successor, begin_after, end_for
from attestation.collect.platform import Platform
from audit.entries import ApplianceStarted, LogGenesis, LogRecovered, RoundAbandoned, parse_entry
from audit.grants import Recovered
from audit.key_claims import Claims, claims_in
from audit.log import LogWriter
from audit.log_files import LogFiles
from audit.phases import RESTART, Phase
from audit.replay import History
from audit.resources import read_entries, read_first_entry
from audit.store import Store
from protocol.agreement import Agreement
from protocol.appraisal import appraise_appliance
from protocol.errors import RefusedError
from protocol.fields import format_digest
from protocol.keys import SigningKey
from protocol.layout import Layout
from protocol.sealing import BlobKind
from protocol.succession import SuccessionError


class StartRefusedError(Exception):
    """This store, agreement and layout do not go together, or the store is damaged. The message says which."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Opened:
    """A log that goes on: its key, and what the sealed state holds."""

    log_key: SigningKey
    ledger: Ledger
    state: EnclaveState


class Starter:
    """The parts of one start, and what is made of them."""

    def __init__(
        self,
        agreement: Agreement,
        layout: Layout,
        store: Store,
        platform: Platform,
        ports: Ports,
        sealing_key: bytes,
        threads: int,
        predecessor: LogFiles | None = None,
        successor: Successor | None = None,
    ) -> None:
        self._agreement = agreement
        self._layout = layout
        self._store = store
        self._platform = platform
        self._ports = ports
        self._vault = StateVault(
            store=store,
            sealing_key=sealing_key,
            agreement=agreement.digest,
            origin=agreement.log.origin,
            random=ports.random,
        )
        self._threads = threads
        self._predecessor = predecessor
        self._successor = successor

    def genesis(self) -> Enclave:
        """A new log under a new key."""
        if self._successor is not None:
            raise SuccessionError("nothing to succeed: expected the store of a federation, found no log in it")
        log_key = SigningKey(self._ports.random(32))
        boot = self._begin(log_key)
        evidence = self._own_evidence(boot, "genesis")
        state = EnclaveState(log_seed=log_key.seed(), model=None, control=None)
        digest = self._vault.save(state)
        log = LogWriter.create(self._store, self._agreement.log.origin, log_key)
        ledger = Ledger(log=log, history=History(self._agreement), clock=self._ports.clock)
        ledger.put_object(self._agreement.source)
        ledger.put_object(self._layout.encode())
        genesis = LogGenesis(
            time=ledger.now(),
            agreement=self._agreement.digest,
            origin=self._agreement.log.origin,
            boot_id=boot.boot_id,
            keys=boot.keys,
            evidence=ledger.put_object(evidence),
            state=digest,
            predecessor=begin_after(self._agreement, self._predecessor, ledger),
        )
        ledger.stage(genesis)
        return self._started(boot, ledger, state)

    def resume(self, *, rotates: bool) -> Enclave:
        """Go on with the store's log, under a new key if it `rotates`."""
        opened = self._opened()
        if rotates:
            return self._rotated(self._bodies(opened.log_key, bytes(32)), opened.ledger, opened.state)
        return self._started(self._begin(opened.log_key), opened.ledger, opened.state)

    def recover(self) -> Enclave | Recovering:
        """Go on as `resume` does if that is possible; else ask the silos for leave to go on under a new key."""
        try:
            opened = self._opened()
            self._require_bodies(self._bodies(opened.log_key, bytes(32)), opened.state)
        except (StateError, BodyError) as error:
            self._ports.event(f"recovering because={error}")
            return self._recovering()
        self._ports.event("recovery-not-needed")
        return self._started(self._begin(opened.log_key), opened.ledger, opened.state)

    def _opened(self) -> _Opened:
        genesis, claims = self._claims()
        keyed = claims.changes[-1][1] if claims.changes else genesis
        log_key = SigningKey(self._vault.load(keyed.state).log_seed)
        if log_key.public.raw != keyed.keys.log:
            raise StartRefusedError(f"the sealed state holds another log key than the {keyed.KIND} that names it")
        ledger = self._ledger(log_key, genesis, claims)
        state = self._vault.load(ledger.history.state or keyed.state)
        if ledger.history.control is None:
            # A control.reset came after the state was sealed: c = 0 has no body.
            state = replace(state, control=None)
        return _Opened(log_key=log_key, ledger=ledger, state=state)

    def _claims(self) -> tuple[LogGenesis, Claims]:
        """Leaf 0, and what the entries say of the log's keys."""
        genesis = parse_entry(read_first_entry(self._store))
        if not isinstance(genesis, LogGenesis):
            raise StartRefusedError(f"the store's log begins with {genesis.KIND}, not with log.genesis")
        if genesis.agreement != self._agreement.digest:
            raise StartRefusedError(
                f"the store belongs to agreement {format_digest(genesis.agreement)}, "
                f"this appliance was given {format_digest(self._agreement.digest)}; one store holds one agreement"
            )
        claims = claims_in(read_entries(self._store))
        if claims.unreadable:
            raise StartRefusedError(
                f"entry {claims.size} changes the log's key in a way that this version does not know: start "
                "the version that wrote it, or a later one"
            )
        return genesis, claims

    def _ledger(self, log_key: SigningKey | None, genesis: LogGenesis, claims: Claims) -> Ledger:
        """The log, verified under its keys and replayed; `log_key` is None where the newest of them is lost."""
        origin = self._agreement.log.origin
        keys = claims.keys(origin, genesis.keys.log_key)
        log = LogWriter.open(self._store, origin, log_key, keys=keys)
        history = History(self._agreement)
        ledger = Ledger.replay(log=log, history=history, clock=self._ports.clock)
        if tuple(history.key_changes) != claims.changes:
            raise StartRefusedError("the store changed while it was read: is another appliance at work on it?")
        return ledger

    def _recovering(self) -> Recovering:
        genesis, claims = self._claims()
        ledger = self._ledger(None, genesis, claims)
        require_vouched(self._agreement, genesis, ledger)
        boot = self._begin(SigningKey(self._ports.random(32)))
        return Recovering(
            agreement=self._agreement,
            boot=boot,
            ledger=ledger,
            ports=self._ports,
            conclude=lambda recovered, grants, model: self._recovered(boot, ledger, recovered, grants, model),
        )

    def _recovered(self, boot: Boot, ledger: Ledger, recovered: Recovered, grants: bytes, model: bytes) -> Enclave:
        """Make a recovery durable: one batch under the new key, as soon as there are enough `grants`."""
        # Whatever can fail without the store's doing comes before anything is staged.
        recovery, started = self._own_evidence(boot, "recovery"), self._own_evidence(boot, "boot")
        state = EnclaveState(log_seed=boot.log_key.seed(), model=None, control=None)
        # A crash after any of these writes leaves files that nothing names: the log has lost its key as before.
        ledger.stage(
            LogRecovered(
                time=ledger.now(),
                agreement=self._agreement.digest,
                boot_id=boot.boot_id,
                keys=boot.keys,
                evidence=ledger.put_object(recovery),
                previous=recovered.previous,
                size=recovered.size,
                root=recovered.root,
                model=model,
                grants=ledger.put_object(grants),
                state=self._vault.save(state),
            )
        )
        return self._started(boot, ledger, state, new_key=boot.log_key, evidence=started)

    def _rotated(self, former: Bodies, ledger: Ledger, state: EnclaveState) -> Enclave:
        boot = self._begin(SigningKey(self._ports.random(32)))
        state = rotate(
            former=former,
            bodies=self._bodies(boot.log_key, boot.boot_id),
            boot=boot,
            state=state,
            evidence=self._own_evidence(boot, "rotation"),
            layout=self._layout,
            ledger=ledger,
            vault=self._vault,
        )
        index, enclave = ledger.history.size - 1, self._started(boot, ledger, state, new_key=boot.log_key)
        self._ports.event(f"log-key-rotated entry={index} key={boot.log_key.public}")
        return enclave

    def _begin(self, log_key: SigningKey) -> Boot:
        return Boot.begin(
            agreement=self._agreement.digest,
            origin=self._agreement.log.origin,
            log_key=log_key,
            platform=self._platform,
            random=self._ports.random,
            now=self._ports.clock(),
        )

    def _own_evidence(self, boot: Boot, purpose: str) -> bytes:
        """Evidence for the log, if the agreement accepts it; raises `StartRefusedError`, `CollectError`.

        No defence: silos and auditors judge it again. But a log whose first entry nobody can believe is of no use.
        """
        evidence, now = boot.unattended_evidence(purpose).encode(), self._ports.clock()
        try:
            appraise_appliance(evidence, self._agreement, boot.unattended_report_data(purpose), now)
        except RefusedError as error:
            raise StartRefusedError(
                f"this machine's evidence is not what the agreement accepts: {error.refusal.found}"
            ) from error
        return evidence

    def _bodies(self, log_key: SigningKey, boot_id: bytes) -> Bodies:
        return Bodies(
            store=self._store,
            layout=self._layout,
            agreement=self._agreement.digest,
            origin=self._agreement.log.origin,
            boot_id=boot_id,
            log_key=log_key,
            random=self._ports.random,
        )

    def _require_bodies(self, bodies: Bodies, state: EnclaveState) -> None:
        for kind, body in ((BlobKind.MODEL, state.model), (BlobKind.CONTROL, state.control)):
            if body is not None:
                bodies.open(kind, body)

    def _started(
        self,
        boot: Boot,
        ledger: Ledger,
        state: EnclaveState,
        *,
        new_key: SigningKey | None = None,
        evidence: bytes | None = None,
    ) -> Enclave:
        """The boot's entries in one batch, with which the log passes to a `new_key`, if there is one.

        `evidence`: the boot's own (purpose "boot"), if it was collected before.
        """
        bodies = self._bodies(boot.log_key, boot.boot_id)
        self._require_bodies(bodies, state)
        ledger.stage(
            ApplianceStarted(
                time=ledger.now(),
                agreement=self._agreement.digest,
                boot_id=boot.boot_id,
                keys=boot.keys,
                evidence=ledger.put_object(evidence or self._own_evidence(boot, "boot")),
            )
        )
        history = ledger.history
        if history.phase is Phase.INTERRUPTED:
            ledger.stage(
                RoundAbandoned(
                    time=ledger.now(), round=history.round, attempt=history.attempt, reason=RESTART, silo=None
                )
            )
        if self._successor is not None:
            end_for(self._successor, self._agreement, boot.boot_id, ledger)
        ledger.flush(successor=new_key)
        closing = Closing(
            agreement=self._agreement,
            layout=self._layout,
            bodies=bodies,
            vault=self._vault,
            ledger=ledger,
            threads=self._threads,
        )
        closing.forget(history, state)
        return Enclave(
            agreement=self._agreement,
            layout=self._layout,
            boot=boot,
            ledger=ledger,
            bodies=bodies,
            closing=closing,
            state=state,
            ports=self._ports,
        )

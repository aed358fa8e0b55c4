"""Closing a committed attempt: merge its cohort into the next model, and say how it ended.

Runs outside the enclave's lock, once the cohort is in the log. What a crash here leaves: bodies and a state that no
entry names; the next boot abandons the attempt. Nothing of the result is released here.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace

from appliance.enclave.attempt import Attempt, aggregate_metrics
from appliance.enclave.bodies import Bodies, NewBody
from appliance.enclave.ledger import Ledger
from appliance.enclave.merge import merge
from appliance.enclave.merge_inputs import Contribution, MergeInputs, MergeOutputs, UpdateChanged
from appliance.enclave.sealed_state import BodySecret, EnclaveState, StateVault
from appliance.enclave.strategies.registry import strategy_for
from audit.entries import RoundAbandoned, RoundPublished
from audit.phases import CHANGED_AFTER_ADMISSION, OVERFLOW, SPOOL_CHANGED
from audit.replay import History
from protocol.agreement import Agreement
from protocol.errors import ProtocolError, RefusalCode, RefusedError
from protocol.layout import Layout
from protocol.metrics import encode_metrics
from protocol.sealing import BlobKind


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """How an attempt ended: the entry that says so, and the enclave's state from then on."""

    entry: RoundPublished | RoundAbandoned
    state: EnclaveState


class Closing:
    """Merges for one boot."""

    def __init__(
        self,
        *,
        agreement: Agreement,
        layout: Layout,
        bodies: Bodies,
        vault: StateVault,
        ledger: Ledger,
        threads: int,
    ) -> None:
        self._agreement = agreement
        self._layout = layout
        self._bodies = bodies
        self._vault = vault
        self._ledger = ledger
        self._threads = threads
        self._strategy = strategy_for(agreement.training)

    def run(self, attempt: Attempt, state: EnclaveState) -> Result:
        """Merge the committed cohort. Raises `BodyError`, `SignatureError` or `RefusedError` (wrong-model) if the
        store's model or control is not the log's: there is nothing to go on from then.
        """
        try:
            return self._publish(attempt, state)
        except UpdateChanged as error:
            # A wrong tag is the spool's doing; another plaintext under the right tags can only be the sender's.
            spool = isinstance(error.__cause__, ProtocolError)
            return self._abandon(attempt, state, SPOOL_CHANGED if spool else CHANGED_AFTER_ADMISSION, error.silo)
        except RefusedError as error:
            if error.refusal.code is not RefusalCode.UPDATE_NOT_FINITE:
                raise
            return self._abandon(attempt, state, OVERFLOW, None)

    def forget(self, history: History, state: EnclaveState) -> None:
        """Delete bodies and states that nothing needs once the entry of a result is durable."""
        # The next start finds its log key in the state that the newest key entry names. A retired key is in none.
        keyed = history.keyed.state if history.keyed else b""
        self._vault.forget_all_but(frozenset({keyed, history.state or b""}))
        self._bodies.forget_all_but(state.model, state.control)

    def _publish(self, attempt: Attempt, state: EnclaveState) -> Result:
        history = self._ledger.history
        cohort = history.cohort()
        contributions = tuple(
            Contribution(silo=member.silo, weight=member.weight, inspection=attempt.accepted[member.silo].inspection)
            for member in cohort
        )
        if state.model is None:
            raise ValueError("there is no model to merge into")
        inputs = MergeInputs(
            layout=self._layout,
            model=self._bodies.open(BlobKind.MODEL, state.model),
            control=None if state.control is None else self._bodies.open(BlobKind.CONTROL, state.control),
            contributions=contributions,
            total_weight=sum(silo.weight for silo in self._agreement.silos),
        )
        with ExitStack() as stack:
            model = stack.enter_context(self._create(BlobKind.MODEL, attempt, history, contributions))
            control = None
            if self._strategy.has_control:
                control = stack.enter_context(self._create(BlobKind.CONTROL, attempt, history, ()))
            outputs = MergeOutputs(model=model.writer, control=None if control is None else control.writer)
            merged = merge(inputs, outputs, self._strategy, threads=self._threads)
            new_control: BodySecret | None = None
            if control is not None and merged.control is not None:
                new_control = control.finish(merged.control)
            state = replace(state, model=model.finish(merged.model), control=new_control)
        entry = RoundPublished(
            time=self._ledger.now(),
            round=attempt.round,
            attempt=attempt.attempt,
            model_in=history.model,
            model_out=merged.model,
            control_in=history.control,
            control_out=merged.control,
            cohort=cohort,
            state=self._vault.save(state),
        )
        return Result(entry=entry, state=state)

    def _create(
        self, kind: BlobKind, attempt: Attempt, history: History, contributions: tuple[Contribution, ...]
    ) -> NewBody:
        metrics = aggregate_metrics({each.silo: (each.weight, each.inspection.metrics) for each in contributions})
        return self._bodies.create(
            kind, round_number=attempt.round, base=history.model, metadata=encode_metrics(metrics)
        )

    def _abandon(self, attempt: Attempt, state: EnclaveState, reason: str, silo: str | None) -> Result:
        entry = RoundAbandoned(
            time=self._ledger.now(), round=attempt.round, attempt=attempt.attempt, reason=reason, silo=silo
        )
        return Result(entry=entry, state=state)

"""Where an update is opened: every complete upload is judged here before it counts.

`begin` and `record` run under the enclave's lock; `judge`, the long part, runs outside it. A refusal is logged against
a silo only if the silo signed these bytes for this very attempt: what the network or the gateway can make up or
replay is answered, and costs the silo nothing.
"""

from dataclasses import dataclass
from typing import TypeAlias

from appliance.enclave.admission import Admission
from appliance.enclave.attempt import Accepted, Attempt
from appliance.enclave.bodies import Bodies
from appliance.enclave.boot import Boot
from appliance.enclave.inspect import Inspection, inspect_update
from appliance.enclave.ledger import Ledger
from appliance.enclave.merge_inputs import SealedBody
from appliance.enclave.reseal import reseal
from appliance.enclave.sealed_state import BodySecret, EnclaveState
from audit.entries import UpdateAccepted, UpdateRefused
from audit.phases import HELD_AGAINST_A_SILO, Phase
from protocol.agreement import Agreement
from protocol.errors import MalformedError, Refusal, RefusalCode, RefusedError, SignatureError, refuse
from protocol.layout import Layout
from protocol.sealing import ANY, BlobHeader, BlobKind, BlobReader, ByteSource, ExpectedHeader
from protocol.sealing.expected import AnyBytes
from protocol.sealing.geometry import read_prelude
from protocol.session import UploadAccepted


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class InitialModel:
    """The initial model, or the one that the log goes on from after a recovery: checked, and sealed again as a body."""

    body: BodySecret


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An update that its silo signed for this attempt, and that is no good."""

    refusal: Refusal


Verdict: TypeAlias = Inspection | Rejected | InitialModel


class Uploads:
    """Judges uploads for one boot."""

    def __init__(self, *, agreement: Agreement, layout: Layout, boot: Boot, bodies: Bodies, ledger: Ledger) -> None:
        self.agreement = agreement
        self.layout = layout
        self.boot = boot
        self.bodies = bodies
        self.ledger = ledger

    def repeated(self, silo: str, header: BlobHeader, attempt: Attempt | None) -> bytes | None:
        """The receipt of an update that this attempt has accepted already; None for any other."""
        accepted = None if attempt is None else attempt.accepted.get(silo)
        if accepted is None or accepted.upload_id != header.upload_id:
            return None
        entry, receipt = self.ledger.receipt(accepted.index)
        return UploadAccepted(entry=entry, receipt=receipt).encode()

    def begin(
        self,
        admission: Admission,
        source: ByteSource,
        header: BlobHeader,
        attempt: Attempt | None,
        state: EnclaveState,
    ) -> "UploadTask":
        """Check what costs nothing, and reserve the silo's place; raises `RefusedError`.

        `attempt`: the one that takes updates now, if there is one.
        """
        if header.kind is BlobKind.INITIAL:
            if state.model is not None:
                raise _complete("the model is here already")
            return UploadTask(self, admission, source, header, None)
        history, silo = self.ledger.history, admission.silo
        if attempt is None or history.phase is not Phase.COLLECTING:
            raise refuse(
                RefusalCode.ROUND_CLOSED,
                expected="an update while a round collects them",
                found=f"one for round {header.round} attempt {header.attempt} while none does",
                remedy="wait for the next announcement; it says what became of this update",
            )
        if attempt.has_verdict(silo) or header.upload_id in history.upload_ids:
            raise _complete(f"{silo} has a complete upload in this attempt, or this upload id was used before")
        if silo in attempt.checking:
            raise refuse(
                RefusalCode.BUSY, expected="one upload at a time", found="a second one", remedy="wait for the first"
            )
        if silo in history.barred:
            raise refuse(
                RefusalCode.CHANGED_AFTER_ADMISSION,
                expected="silos whose updates stay as they were admitted",
                found=f"{silo}, whose bytes changed between admission and merge in an earlier attempt",
                remedy="find out who changed them; a successor agreement can take the silo in again",
            )
        attempt.checking.add(silo)
        return UploadTask(self, admission, source, header, attempt)

    def record(self, task: "UploadTask", verdict: Inspection | Rejected, attempt: Attempt | None, time: int) -> bytes:
        """Log the verdict at `time` and answer: the encoded `UploadAccepted`, or `RefusedError`."""
        history, silo, header = self.ledger.history, task.admission.silo, task.header
        if attempt is None or attempt is not task.attempt or history.phase is not Phase.COLLECTING:
            raise refuse(
                RefusalCode.ROUND_CLOSED,
                expected="an update before its attempt ends",
                found=f"one that was complete after attempt {header.attempt} of round {header.round} had ended",
                remedy="wait for the next announcement",
            )
        if header.upload_id in history.upload_ids:
            raise _complete("this upload id was used before")
        if isinstance(verdict, Rejected):
            attempt.refused.add(silo)
            self.ledger.record(
                UpdateRefused(
                    time=time,
                    round=attempt.round,
                    attempt=attempt.attempt,
                    silo=silo,
                    upload_id=header.upload_id,
                    code=str(verdict.refusal.code),
                )
            )
            raise RefusedError(verdict.refusal)
        self.ledger.record(
            UpdateAccepted(
                time=time,
                round=attempt.round,
                attempt=attempt.attempt,
                silo=silo,
                upload_id=header.upload_id,
                update=verdict.digest,
                parent=verdict.reader.header.parent,
            )
        )
        index = self.ledger.size - 1
        attempt.accepted[silo] = Accepted(upload_id=header.upload_id, index=index, inspection=verdict)
        entry, receipt = self.ledger.receipt(index)
        return UploadAccepted(entry=entry, receipt=receipt).encode()


class UploadTask:
    """One upload being judged."""

    def __init__(
        self,
        uploads: Uploads,
        admission: Admission,
        source: ByteSource,
        header: BlobHeader,
        attempt: Attempt | None,
    ) -> None:
        history = uploads.ledger.history
        self.admission = admission
        self.header = header
        self.attempt = attempt
        self._uploads = uploads
        self._source = source
        self._model = history.model
        self._parent = history.parents.get(admission.silo)
        self._checks_parent = history.uses_controls

    def judge(self) -> Verdict:
        """Open the upload; raises `RefusedError` for what is not held against the silo."""
        if self.attempt is None:
            return self._judge_initial()
        try:
            return self._judge_update(self.attempt)
        except RefusedError as error:
            if error.refusal.code in HELD_AGAINST_A_SILO:
                return Rejected(refusal=error.refusal)
            raise

    def end(self) -> None:
        """Give the silo's place back."""
        if self.attempt is not None:
            self.attempt.checking.discard(self.admission.silo)

    def _judge_update(self, attempt: Attempt) -> Inspection:
        uploads, silo = self._uploads, self.admission.silo
        inspection = inspect_update(
            self._source,
            uploads.layout,
            sender=uploads.agreement.silo(silo).identity,
            recipient=attempt.key,
            expected=self._expected(
                BlobKind.UPDATE, attempt.round, attempt.attempt, self._model, upload_id=self.header.upload_id
            ),
            training=uploads.agreement.training,
            terms=uploads.agreement.update,
        )
        # The signed header: the one that came first was read before anything was verified.
        parent = inspection.reader.header.parent
        if self._checks_parent and parent != self._parent:
            raise refuse(
                RefusalCode.WRONG_PARENT,
                expected="the silo's last used update as parent: " + _shown(self._parent),
                found=_shown(parent),
                remedy="the silo lost its control variate; a control.reset is logged and training goes on from zero",
            )
        return inspection

    def _judge_initial(self) -> InitialModel:
        uploads, agreement = self._uploads, self._uploads.agreement
        content = self._model
        try:
            reader = BlobReader(self._source, uploads.layout.chunks)
            expected = self._expected(BlobKind.INITIAL, 0, 0, content)
            reader.authenticate(agreement.silo(self.admission.silo).identity, expected)
            handed_in = SealedBody(reader=reader, content_key=reader.unwrap(uploads.boot.sealing), content=content)
            with uploads.bodies.create(BlobKind.MODEL, round_number=0, base=content, metadata=b"{}") as body:
                reseal(handed_in, uploads.layout, body.writer)
                return InitialModel(body=body.finish(content))
        except (SignatureError, MalformedError) as error:
            raise refuse(
                RefusalCode.UPDATE_CORRUPT,
                expected="the model that was asked for, signed by the silo and sealed to this boot of the appliance",
                found=str(error),
                remedy="seal it again",
            ) from error

    def _expected(
        self, kind: BlobKind, round_number: int, attempt: int, base: bytes, *, upload_id: AnyBytes = ANY
    ) -> ExpectedHeader:
        uploads = self._uploads
        return ExpectedHeader(
            kind=kind,
            agreement=uploads.agreement.digest,
            origin=uploads.agreement.log.origin,
            boot_id=uploads.boot.boot_id,
            round=round_number,
            attempt=attempt,
            sender=self.admission.silo,
            upload_id=upload_id,
            base_model=base,
            layout=uploads.layout.digest,
            encoding=uploads.agreement.update.encoding,
            parent=ANY,
        )


def read_header(source: ByteSource) -> BlobHeader:
    """What a blob says it is, before anything of it is verified; raises `RefusedError` (malformed)."""
    try:
        return BlobHeader.parse(read_prelude(source)[0])
    except MalformedError as error:
        raise refuse(
            RefusalCode.MALFORMED, expected="a sealed blob", found=str(error), remedy="send the stored bytes again"
        ) from error


def _complete(found: str) -> RefusedError:
    return refuse(
        RefusalCode.ALREADY_COMPLETE,
        expected="one complete upload for each attempt and silo",
        found=found,
        remedy="wait for the next announcement",
    )


def _shown(upload_id: bytes | None) -> str:
    return "none" if upload_id is None else upload_id.hex()

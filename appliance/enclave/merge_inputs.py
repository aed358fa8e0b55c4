"""What a merge takes and gives. Built by the enclave from the log, its memory and the spool."""

from dataclasses import dataclass

from appliance.enclave.inspect import Inspection
from appliance.enclave.strategies.base import Cohort
from protocol.errors import Refusal, RefusalCode, RefusedError
from protocol.layout import Layout
from protocol.sealing.content_key import ContentKey
from protocol.sealing.reader import BlobReader
from protocol.sealing.writer import BlobWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBody:
    """A model or control: an authenticated reader, its key, and the content digest that the log names."""

    reader: BlobReader
    content_key: ContentKey
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """One member of the committed cohort. `weight` is the agreement's."""

    silo: str
    weight: float
    inspection: Inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeInputs:
    """What a round merges.

    `control` is None while c = 0, and for strategies without one; `contributions` stand in the agreement's order;
    `total_weight` is Σ w over all silos of the agreement.
    """

    layout: Layout
    model: SealedBody
    control: SealedBody | None
    contributions: tuple[Contribution, ...]
    total_weight: float

    def __post_init__(self) -> None:
        silos = [contribution.silo for contribution in self.contributions]
        if len(set(silos)) != len(silos):
            raise ValueError("merge: expected each silo once in a cohort")

    @property
    def cohort(self) -> Cohort:
        """The scalars that strategies work with."""
        return Cohort(
            weights=tuple(contribution.weight for contribution in self.contributions),
            step_size_sums=tuple(contribution.inspection.step_size_sum for contribution in self.contributions),
            total_weight=self.total_weight,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOutputs:
    """Where the next model and control go; `control` is None for strategies without one."""

    model: BlobWriter
    control: BlobWriter | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Content digests of what was written."""

    model: bytes
    control: bytes | None


class UpdateChanged(RefusedError):
    """An update is no longer the one that was admitted; the attempt is abandoned, naming `silo`."""

    def __init__(self, silo: str, found: str) -> None:
        super().__init__(
            Refusal(
                code=RefusalCode.CHANGED_AFTER_ADMISSION,
                expected=f"the update of {silo} as it was admitted",
                found=found,
                remedy=f"this attempt is abandoned, and {silo} is left out of the next",
            )
        )
        self.silo = silo

"""What a header must say, field by field; a field that somebody doesn't compare is named as such, never left out.

Called by whoever opens a blob: the enclave for updates and initial models, a silo for models and controls.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

from protocol.errors import RefusalCode, RefusedError, refuse
from protocol.fields import format_digest
from protocol.sealing.header import BlobHeader, BlobKind


class Unchecked(Enum):
    """The type of `ANY`."""

    ANY = "any"


ANY: Final = Unchecked.ANY
"""This field is not compared, because nothing is known about it yet."""

AnyBytes: TypeAlias = bytes | Literal[Unchecked.ANY]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedHeader:
    """The header that a reader will accept; the fields are those of `BlobHeader`."""

    kind: BlobKind
    agreement: bytes
    origin: str
    boot_id: AnyBytes
    round: int | Literal[Unchecked.ANY]
    attempt: int | Literal[Unchecked.ANY]
    sender: str
    upload_id: AnyBytes
    base_model: AnyBytes
    layout: bytes
    encoding: str
    parent: bytes | Literal[Unchecked.ANY] | None

    def require(self, header: BlobHeader) -> None:
        """Raise the `RefusedError` of the first field that differs."""
        for code, name, expected, found, remedy in self._comparisons(header):
            if expected is not ANY and expected != found:
                raise _refusal(code, name, expected, found, remedy)

    def _comparisons(self, header: BlobHeader) -> Iterator[tuple[RefusalCode, str, object, object, str]]:
        yield (
            RefusalCode.AGREEMENT_MISMATCH,
            "agreement",
            self.agreement,
            header.agreement,
            "compare the federation.toml files byte by byte",
        )
        yield RefusalCode.OTHER_LOG, "log", self.origin, header.origin, "enrol with the appliance of this log"
        yield RefusalCode.MALFORMED, "kind", self.kind, header.kind, "send the kind of object that was asked for"
        yield RefusalCode.WRONG_SENDER, "sender", self.sender, header.sender, "send only what is sealed as oneself"
        yield RefusalCode.WRONG_BOOT, "boot id", self.boot_id, header.boot_id, "enrol again, the appliance restarted"
        yield RefusalCode.WRONG_ROUND, "round", self.round, header.round, "train on the newest announcement"
        yield RefusalCode.WRONG_ROUND, "attempt", self.attempt, header.attempt, "train on the newest announcement"
        yield RefusalCode.WRONG_LAYOUT, "layout", self.layout, header.layout, "use the agreement's layout.json"
        yield (
            RefusalCode.WRONG_BASE_MODEL,
            "base model",
            self.base_model,
            header.base_model,
            "train on the model that the round announces",
        )
        yield RefusalCode.WRONG_ENCODING, "encoding", self.encoding, header.encoding, "use the agreement's encoding"
        yield RefusalCode.WRONG_PARENT, "parent", self.parent, header.parent, "name the last update that was used"
        yield RefusalCode.MALFORMED, "upload id", self.upload_id, header.upload_id, "send the object under its own name"


def _refusal(code: RefusalCode, name: str, expected: object, found: object, remedy: str) -> RefusedError:
    return refuse(code, expected=f"{name} {_shown(expected)}", found=_shown(found), remedy=remedy)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return format_digest(value) if len(value) == 32 else value.hex()
    return "none" if value is None else str(value)

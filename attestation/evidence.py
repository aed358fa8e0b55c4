"""Evidence as it travels and as the log keeps it: canonical JSON (RFC 8785) of a report and its endorsements.

Trusts nothing: whatever parses here is still to be authenticated and appraised. `tee` says how to read the report
and nothing else; which roots it needs is the reference values' affair.
"""

import base64
import json
from dataclasses import dataclass

import rfc8785

from attestation.errors import EvidenceMalformed
from attestation.tee import Tee

MAXIMUM_EVIDENCE_BYTES = 256 * 1024
MAXIMUM_ENDORSEMENTS = 16
_VERSION = 1
_KEYS = {"endorsements", "report", "tee", "version"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A TEE's signed report and what endorses its key: certificates, revocation lists, collateral, in any order.

    Raises `EvidenceMalformed` for `Tee.NONE`, which has no evidence, and beyond 16 endorsements.
    """

    tee: Tee
    report: bytes
    endorsements: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if self.tee is Tee.NONE:
            raise EvidenceMalformed("tee", expected="a TEE that makes evidence", found="none")
        if len(self.endorsements) > MAXIMUM_ENDORSEMENTS:
            raise EvidenceMalformed(
                "endorsements", expected=f"at most {MAXIMUM_ENDORSEMENTS}", found=str(len(self.endorsements))
            )

    def encode(self) -> bytes:
        """The canonical JSON that `parse` reads."""
        return rfc8785.dumps(
            {
                "endorsements": [_to_base64(item) for item in self.endorsements],
                "report": _to_base64(self.report),
                "tee": str(self.tee),
                "version": _VERSION,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "Evidence":
        """Read canonical JSON of at most 256 KiB; raises `EvidenceMalformed`.

        Unknown, missing and duplicate keys, other spellings of the same value and loose base64 are all refused: one
        piece of evidence has one encoding.
        """
        if len(data) > MAXIMUM_EVIDENCE_BYTES:
            raise EvidenceMalformed(
                "evidence", expected=f"at most {MAXIMUM_EVIDENCE_BYTES} bytes", found=str(len(data))
            )
        try:
            value = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise EvidenceMalformed("evidence", expected="JSON in UTF-8", found=type(error).__name__) from error
        if not isinstance(value, dict) or set(value) != _KEYS:
            found = ", ".join(sorted(value))[:120] if isinstance(value, dict) else type(value).__name__
            raise EvidenceMalformed("evidence", expected=f"the keys {', '.join(sorted(_KEYS))}", found=ascii(found))
        if type(value["version"]) is not int or value["version"] != _VERSION:
            raise EvidenceMalformed("version", expected=str(_VERSION), found=ascii(value["version"])[:80])
        evidence = cls(
            tee=_tee(value["tee"]),
            report=_from_base64("report", value["report"]),
            endorsements=tuple(_from_base64("endorsements", item) for item in _list(value["endorsements"])),
        )
        if evidence.encode() != data:
            raise EvidenceMalformed("evidence", expected="canonical JSON (RFC 8785)", found="another spelling")
        return evidence


def _tee(value: object) -> Tee:
    if not isinstance(value, str) or value not in tuple(Tee):
        raise EvidenceMalformed("tee", expected=" or ".join(Tee), found=ascii(value)[:80])
    return Tee(value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > MAXIMUM_ENDORSEMENTS:
        raise EvidenceMalformed(
            "endorsements", expected=f"a list of at most {MAXIMUM_ENDORSEMENTS}", found=type(value).__name__
        )
    return value


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(field: str, value: object) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except ValueError:
        pass
    raise EvidenceMalformed(field, expected="standard base64", found=ascii(value)[:80])

"""Reference values for Nitro Enclaves: what an attestation document must say to be accepted.

They come from the agreement and have no defaults. An enclave in debug mode is refused whatever they say.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from attestation.errors import ReferenceValuesError
from attestation.nitro.document import PCR_BYTES
from attestation.tee import Tee
from attestation.terms import Covers, Revocation, require_filled, require_range, require_size, require_texts

ANY: Final = "any"
CERTIFICATE_SECONDS: Final = 3 * 3600
"""How long the hypervisor's certificates live; an older document isn't valid anyway."""


class Presence(StrEnum):
    """Whether a document may hold an optional field that nothing is compared with."""

    ABSENT = "absent"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroReferenceValues:
    """One accepted kind of enclave. Raises `ReferenceValuesError` if empty, contradictory or out of range.

    - `pcr0`, `pcr1`, `pcr2`: accepted measurements of the image, of kernel and boot RAM disk, of the application (48
      bytes each, never zero).
    - `pcr3`, `pcr4`, `pcr8`: accepted digests of the instance's IAM role, of the instance, of the certificate that
      signed the image (48 bytes each; zero where there is none), or `ANY`.
    - `module_ids`: accepted enclaves by name, or `ANY`: each launch has a new one.
    - `maximum_age_seconds`: how old a document may be at the time given. Its certificate, which lives three hours,
      must be valid then in any case; for archived evidence that time is a trusted time of receipt, never the document's
      own.
    - `nonce`, `public_key`: whether the document may hold one. What it commits to is its
      user data, and nothing else.
    - `revocation`: `SHORT_LIVED`; AWS publishes no lists.
    - `covers`: the registers reach the image, and so the code.
    """

    tee: Tee
    pcr0: tuple[bytes, ...]
    pcr1: tuple[bytes, ...]
    pcr2: tuple[bytes, ...]
    pcr3: tuple[bytes, ...] | Literal["any"]
    pcr4: tuple[bytes, ...] | Literal["any"]
    pcr8: tuple[bytes, ...] | Literal["any"]
    module_ids: tuple[str, ...] | Literal["any"]
    maximum_age_seconds: int
    nonce: Presence
    public_key: Presence
    revocation: Revocation
    covers: Covers

    def __post_init__(self) -> None:
        if self.tee is not Tee.NITRO:
            raise ReferenceValuesError("tee", expected="nitro", found=str(self.tee))
        for name in ("pcr0", "pcr1", "pcr2"):
            values: tuple[bytes, ...] = getattr(self, name)
            _require_registers(name, values)
            if not all(any(value) for value in values):
                raise ReferenceValuesError(name, expected="measurements", found="zero bytes (debug mode)")
        for name in ("pcr3", "pcr4", "pcr8"):
            if (accepted := getattr(self, name)) != ANY:
                _require_registers(name, accepted)
        if self.module_ids != ANY:
            require_filled("module_ids", self.module_ids)
            require_texts("module_ids", self.module_ids)
        require_range("maximum_age_seconds", self.maximum_age_seconds, CERTIFICATE_SECONDS)
        for name in ("nonce", "public_key"):
            if not isinstance(word := getattr(self, name), Presence):
                raise ReferenceValuesError(name, expected='"absent" or "any"', found=repr(word)[:80])
        if self.revocation is not Revocation.SHORT_LIVED:
            raise ReferenceValuesError(
                "revocation", expected=f'"{Revocation.SHORT_LIVED}": AWS publishes no lists', found=self.revocation
            )


def _require_registers(name: str, values: tuple[bytes, ...]) -> None:
    require_filled(name, values)
    for value in values:
        require_size(name, value, PCR_BYTES)

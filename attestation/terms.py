"""Two things that every set of reference values says in words, because no TEE says them of itself."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from attestation.errors import ReferenceValuesError


class Covers(StrEnum):
    """How far the measurements reach.

    `CODE`: they cover our code, and all that loads it. `FIRMWARE_ONLY`: they stop at a provider's firmware and prove
    nothing about the code; to accept that takes these words in the agreement, and every verdict warns.
    """

    CODE = "code"
    FIRMWARE_ONLY = "firmware-only"


class Revocation(StrEnum):
    """How it is noticed that a key was withdrawn.

    `CRL`: fresh signed revocation lists must come with the evidence. `MINIMUM_TCB`: by raising the minimum security
    version, which is what it comes to where leaf certificates can't be told apart (AMD's all carry serial 0).
    `SHORT_LIVED`: certificates and tokens live hours, and nobody publishes lists of them.
    """

    CRL = "crl"
    MINIMUM_TCB = "minimum-tcb"
    SHORT_LIVED = "short-lived"


LONGEST_TEXT: Final = 1024
FIRMWARE_ONLY_WARNING: Final = (
    "the measurement covers a provider's firmware only: nothing is proved about the code that runs above it"
)


def coverage_warnings(covers: Covers) -> tuple[str, ...]:
    """What a verdict has to say about measurements that stop short of the code."""
    return (FIRMWARE_ONLY_WARNING,) if covers is Covers.FIRMWARE_ONLY else ()


def require_filled(field: str, values: Collection[object]) -> None:
    """An allow-list has items, and none twice; raises `ReferenceValuesError`."""
    if not values:
        raise ReferenceValuesError(field, expected="at least one", found="none")
    if len(set(values)) != len(values):
        raise ReferenceValuesError(field, expected="no value twice", found="a duplicate")


def require_texts(field: str, values: Collection[str], *, shortest: int = 1) -> None:
    """No text that an agreement could not hold; raises `ReferenceValuesError`."""
    for value in values:
        if not shortest <= len(value) <= LONGEST_TEXT or not value.isprintable():
            raise ReferenceValuesError(
                field, expected=f"printable text of {shortest} to {LONGEST_TEXT} characters", found=ascii(value)[:80]
            )


def require_size(field: str, value: bytes, size: int) -> None:
    """A digest or identifier has its size in bytes; raises `ReferenceValuesError`."""
    if len(value) != size:
        raise ReferenceValuesError(field, expected=f"{size} bytes", found=f"{len(value)}")


def require_range(field: str, value: int, maximum: int) -> None:
    """An integer from 0 to `maximum`; raises `ReferenceValuesError`."""
    if type(value) is not int or not 0 <= value <= maximum:
        raise ReferenceValuesError(field, expected=f"an integer from 0 to {maximum}", found=repr(value))

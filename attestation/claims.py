"""What evidence says, name by name: for machines as JSON values, for people in words.

The names are the same for all TEEs where they mean the same (those of EAT, RFC 9711, where it has one): `product`,
`measurements`, `report_data`, `tcb`, `debug`, `signer`, `vmpl`, `nonce`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Json: TypeAlias = bool | int | str | list["Json"] | dict[str, "Json"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One statement. `value` is JSON (bytes as lower-case hexadecimal); `words` says it to a person, in one line."""

    name: str
    value: Json
    words: str


Claims: TypeAlias = tuple[Claim, ...]


def as_json(claims: Claims) -> Mapping[str, Json]:
    """The claims as one JSON object."""
    return {claim.name: claim.value for claim in claims}

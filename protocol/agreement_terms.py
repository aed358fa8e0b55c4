"""The agreement's tables as frozen types, each with the reader of its own keys.

Every reader takes a closed-schema `Fields` and raises `AgreementError` naming the key. What concerns several tables at
once (owners, quorum, weights, simulated TEEs) is checked in `protocol.agreement`.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from protocol.agreement_toml import fields_of, tables_of
from protocol.errors import MalformedError
from protocol.fields import Fields
from protocol.keys import VerifyingKey
from protocol.verifier_keys import decode_cosigner_key, encode_cosigner_key

MINIMUM_COHORT = 2
MAXIMUM_ROUNDS = 1_000_000
# An entry of 65,535 bytes names a round's whole cohort.
MAXIMUM_SILOS = 256
# A note has at most 100 signature lines (C2SP), and one of them is the log's: the rest are owners' and witnesses'.
MAXIMUM_COSIGNERS = 99
MAXIMUM_WITNESSES = 16
SIMULATED_PREFIX = "simulated."
_WEEK_SECONDS = 7 * 24 * 3600
_SMALLEST, _LARGEST = 1e-30, 1e30
# A cosigner is called `<origin>/<silo>`, and a key's name has at most 255 bytes.
_ORIGIN = re.compile(r"[!-*,-~]{1,191}")
_JURISDICTION = re.compile(r"[A-Za-z0-9-]{1,63}")


class Strategy(StrEnum):
    """How updates become the next model."""

    SCAFFOLD = "scaffold"
    FEDAVG = "fedavg"
    FEDPROX = "fedprox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """`[federation]`. `minimum_cohort` counts distinct owners; times are in seconds."""

    name: str
    minimum_cohort: int
    rounds: int
    enrolment_deadline_seconds: int
    round_deadline_seconds: int
    credential_seconds: int

    @classmethod
    def read(cls, fields: Fields) -> "Federation":
        """Take the table's keys and close it."""
        federation = cls(
            name=fields.name("name"),
            minimum_cohort=fields.integer("minimum_cohort", minimum=MINIMUM_COHORT, maximum=MAXIMUM_SILOS),
            rounds=fields.integer("rounds", minimum=1, maximum=MAXIMUM_ROUNDS),
            enrolment_deadline_seconds=fields.integer("enrolment_deadline_seconds", minimum=1, maximum=_WEEK_SECONDS),
            round_deadline_seconds=fields.integer("round_deadline_seconds", minimum=1, maximum=_WEEK_SECONDS),
            credential_seconds=fields.integer("credential_seconds", minimum=1, maximum=_WEEK_SECONDS),
        )
        fields.close()
        return federation


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTerms:
    """`[model]`. `layout`: digest of `layout.json`; `initial`: content digest of the initial model (32 bytes each)."""

    layout: bytes
    initial: bytes

    @classmethod
    def read(cls, fields: Fields) -> "ModelTerms":
        """Take the table's keys and close it."""
        model = cls(layout=fields.digest("layout"), initial=fields.digest("initial"))
        fields.close()
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """`[predecessor]`: the agreement that this one succeeds, by digest (32 bytes), and how many rounds it published.

    `[model] initial` is then the content digest of that round's model.
    """

    agreement: bytes
    rounds: int

    @classmethod
    def read(cls, fields: Fields) -> "Predecessor":
        """Take the table's keys and close it."""
        predecessor = cls(
            agreement=fields.digest("agreement"),
            rounds=fields.integer("rounds", minimum=1, maximum=MAXIMUM_ROUNDS),
        )
        fields.close()
        return predecessor


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """`[training]`. `local_steps` is K, `learning_rate` η, `server_learning_rate` η_g; `proximal_mu` iff FedProx."""

    strategy: Strategy
    local_steps: int
    learning_rate: float
    server_learning_rate: float
    proximal_mu: float | None = None

    @classmethod
    def read(cls, fields: Fields) -> "Training":
        """Take the table's keys and close it."""
        strategy = Strategy(fields.choice("strategy", tuple(Strategy)))
        if strategy is not Strategy.FEDPROX and fields.has("proximal_mu"):
            expected = f'no such key with strategy = "{strategy}" (it belongs to "fedprox")'
            raise fields.error("proximal_mu", expected, fields.take("proximal_mu", expected))
        training = cls(
            strategy=strategy,
            local_steps=fields.integer("local_steps", minimum=1, maximum=1_000_000),
            learning_rate=positive(fields, "learning_rate"),
            server_learning_rate=positive(fields, "server_learning_rate"),
            proximal_mu=positive(fields, "proximal_mu") if strategy is Strategy.FEDPROX else None,
        )
        fields.close()
        return training


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateTerms:
    """`[update]`. `maximum_norm` is the largest Euclidean norm that an update may have."""

    encoding: str
    maximum_norm: float

    @classmethod
    def read(cls, fields: Fields) -> "UpdateTerms":
        """Take the table's keys and close it."""
        update = cls(
            encoding=_only(fields, "encoding", "float32"),
            maximum_norm=positive(fields, "maximum_norm"),
        )
        fields.close()
        return update


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """`[privacy]`."""

    mechanism: str

    @classmethod
    def read(cls, fields: Fields) -> "Privacy":
        """Take the table's keys and close it."""
        privacy = cls(mechanism=_only(fields, "mechanism", "none"))
        fields.close()
        return privacy


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessTerms:
    """One `[[log.witness]]`: somebody who is no silo and cosigns, by the key that it has for all its logs."""

    name: str
    key_name: str
    key: VerifyingKey

    @property
    def verifier_key(self) -> str:
        """The key as its operator hands it out (C2SP signed-note, type 0x04)."""
        return encode_cosigner_key(self.key_name, self.key)

    @classmethod
    def read(cls, fields: Fields) -> "WitnessTerms":
        """Take the table's keys and close it."""
        name = fields.name("name")
        key_name, key = _witness_key(fields, "key")
        fields.close()
        return cls(name=name, key_name=key_name, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTerms:
    """`[log]`. Of all owners `cosigners` must cosign, of whom `faulty` may collude or have lost their memory.

    `witnesses`: who cosigns besides; `required_witnesses`: how many of them must before a release (0: none is waited
    for).
    """

    origin: str
    cosigners: int
    faulty: int
    witnesses: tuple[WitnessTerms, ...] = ()
    required_witnesses: int = 0

    @classmethod
    def read(cls, fields: Fields, file: str) -> "LogTerms":
        """Take the table's keys and close it. The origin follows C2SP signed-note key names, in printable ASCII."""
        expected = 'an origin of 1 to 191 printable ASCII characters without spaces and "+"'
        origin = fields.take("origin", expected)
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise fields.error("origin", expected, origin)
        cosigners = fields.integer("cosigners", minimum=1, maximum=MAXIMUM_COSIGNERS)
        faulty = fields.integer("faulty", minimum=1, maximum=MAXIMUM_SILOS)
        witnesses = _witnesses(fields, file)
        if not witnesses and fields.has("witnesses"):
            expected = "no such key without [[log.witness]] tables"
            raise fields.error("witnesses", expected, fields.take("witnesses", expected))
        required = fields.integer("witnesses", maximum=len(witnesses)) if witnesses else 0
        fields.close()
        return cls(origin=origin, cosigners=cosigners, faulty=faulty, witnesses=witnesses, required_witnesses=required)


def _witnesses(fields: Fields, file: str) -> tuple[WitnessTerms, ...]:
    if not fields.has("witness"):
        return ()
    heading = "log.witness"
    tables = tables_of(fields, "witness", heading, MAXIMUM_WITNESSES)
    places = [f"{file}: [[{heading}]] #{number}" for number in range(1, len(tables) + 1)]
    return tuple(WitnessTerms.read(fields_of(table, place)) for table, place in zip(tables, places, strict=True))


def _witness_key(fields: Fields, key: str) -> tuple[str, VerifyingKey]:
    expected = "a key for cosignatures, <name>+<8 hex digits>+<base64>, as `strongroom witness key` prints it"
    value = fields.take(key, expected)
    try:
        return decode_cosigner_key(value if isinstance(value, str) else "")
    except MalformedError as error:
        raise fields.error(key, expected, value) from error


def positive(fields: Fields, key: str) -> float:
    """A number above 0. TOML integers are accepted; nan, inf and what float32 could not hold are not."""
    expected = "a decimal number above 0 (1e-30 to 1e30)"
    value = fields.take(key, expected)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fields.error(key, expected, value)
    if not math.isfinite(value) or not _SMALLEST <= value <= _LARGEST:
        raise fields.error(key, expected, value)
    return float(value)


def identity_key(fields: Fields, key: str) -> VerifyingKey:
    """An Ed25519 public key in the form that `strongroom silo init` prints."""
    expected = '"ed25519:" and base64 of 32 bytes, as `silo init` prints it'
    value = fields.take(key, expected)
    try:
        return VerifyingKey.parse(value if isinstance(value, str) else "")
    except MalformedError as error:
        raise fields.error(key, expected, value) from error


def jurisdiction(fields: Fields) -> str:
    """Where a silo's data lies, as its lawyers write it ("ch", "US-CA"): shown and logged, never interpreted."""
    expected = "1 to 63 of [A-Za-z0-9-]"
    value = fields.take("jurisdiction", expected)
    if not isinstance(value, str) or not _JURISDICTION.fullmatch(value):
        raise fields.error("jurisdiction", expected, value)
    return value


def _only(fields: Fields, key: str, supported: str) -> str:
    expected = f'"{supported}" (nothing else is supported yet)'
    value = fields.take(key, expected)
    if value != supported:
        raise fields.error(key, expected, value)
    return supported

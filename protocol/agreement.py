"""The agreement: the one file, `federation.toml`, that every party of a federation holds byte for byte.

Its digest is the SHA-256 of its exact bytes; parties with different digests refuse each other. The schema is closed and
nothing has a default: what is missing, unknown, empty or contradictory is an `AgreementError` of one line that names
file, table, key, what was expected and what was found. Trusts nothing in the bytes. Silos, enclave, auditor and CLI all
read the agreement here, so that they cannot read it differently.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256

from attestation.reference_values import ReferenceValues
from attestation.tee import Tee
from protocol.agreement_render import render_model, render_silo
from protocol.agreement_tees import MAXIMUM_TEES, read_tee
from protocol.agreement_terms import (
    MAXIMUM_COSIGNERS,
    MAXIMUM_SILOS,
    SIMULATED_PREFIX,
    Federation,
    LogTerms,
    ModelTerms,
    Predecessor,
    Privacy,
    Strategy,
    Training,
    UpdateTerms,
    WitnessTerms,
    identity_key,
    jurisdiction,
    positive,
)
from protocol.agreement_toml import AgreementError, fields_of, printable, read_tables, tables_of
from protocol.errors import RefusalCode, RefusedError, refuse
from protocol.fields import Fields, format_digest
from protocol.keys import VerifyingKey

__all__ = [
    "Agreement",
    "AgreementError",
    "Federation",
    "LogTerms",
    "ModelTerms",
    "Predecessor",
    "Privacy",
    "SiloTerms",
    "Strategy",
    "Training",
    "UpdateTerms",
    "WitnessTerms",
    "effective_cohort",
    "mismatch",
    "render_model",
    "render_silo",
]

_APPLIANCE_TEES = (Tee.SEV_SNP, Tee.TDX, Tee.SGX, Tee.NITRO, Tee.CONFIDENTIAL_SPACE, Tee.AZURE_MAA, Tee.SIMULATED)
_SILO_TEES = (*_APPLIANCE_TEES, Tee.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiloTerms:
    """One `[[silo]]`. `tees`: accepted reference values, or `(None,)` where the silo has no TEE and its key must do."""

    name: str
    owner: str
    jurisdiction: str
    identity: VerifyingKey
    weight: float
    tees: tuple[ReferenceValues | None, ...]

    @property
    def reference_values(self) -> tuple[ReferenceValues, ...]:
        """What the silo's evidence is appraised against; empty if and only if it needs none."""
        return tuple(values for values in self.tees if values is not None)

    @property
    def needs_evidence(self) -> bool:
        """False for `tee = "none"`."""
        return None not in self.tees


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A federation's terms. `source` holds the exact bytes, `digest` their SHA-256 (32 bytes).

    `predecessor`: which agreement this one succeeds, if any.
    """

    source: bytes
    digest: bytes
    federation: Federation
    predecessor: Predecessor | None
    model: ModelTerms
    training: Training
    update: UpdateTerms
    privacy: Privacy
    appliance: tuple[ReferenceValues, ...]
    silos: tuple[SiloTerms, ...]
    log: LogTerms

    @classmethod
    def parse(cls, data: bytes, file: str) -> "Agreement":
        """Read the file's bytes; `file` is its name in errors. Raises `AgreementError` and nothing else."""
        file = printable(file)
        root = fields_of(read_tables(data, file), f"{file}:")

        def table(name: str) -> Fields:
            return fields_of(root.take(name, "a table"), f"{file}: [{name}]")

        agreement = cls(
            source=data,
            digest=sha256(data).digest(),
            federation=Federation.read(table("federation")),
            predecessor=Predecessor.read(table("predecessor")) if root.has("predecessor") else None,
            model=ModelTerms.read(table("model")),
            training=Training.read(table("training")),
            update=UpdateTerms.read(table("update")),
            privacy=Privacy.read(table("privacy")),
            appliance=_read_appliance(table("appliance"), file),
            silos=_read_silos(root, file),
            log=LogTerms.read(table("log"), file),
        )
        root.close()
        _check_unique(agreement, file)
        _check_cohort(agreement, file)
        _check_quorum(agreement, file)
        _check_witnesses(agreement, file)
        _check_simulated(agreement, file)
        return agreement

    @property
    def simulated(self) -> bool:
        """Whether the TEEs are simulated, in which case nothing is protected and every command says so."""
        return any(values.tee.simulated for values in self.appliance)

    @property
    def owners(self) -> tuple[str, ...]:
        """The distinct owners, in the order of their first silo. Each has one vote in the quorum."""
        return tuple(dict.fromkeys(silo.owner for silo in self.silos))

    @property
    def tolerated_absences(self) -> int:
        """How many owners may be away without holding up a release."""
        return len(self.owners) - self.log.cosigners

    @property
    def spiffe_domain(self) -> str:
        """The SPIFFE trust domain of the credentials, marked if the TEEs are simulated."""
        return (SIMULATED_PREFIX if self.simulated else "") + self.federation.name

    def spiffe_id(self, name: str) -> str:
        """The SPIFFE ID of a silo that the agreement names; raises `RefusedError` for any other."""
        return f"spiffe://{self.spiffe_domain}/silo/{self.silo(name).name}"

    def witness(self, name: str) -> WitnessTerms:
        """The terms of one further witness; raises `RefusedError` (unknown-witness)."""
        for witness in self.log.witnesses:
            if witness.name == name:
                return witness
        raise refuse(
            RefusalCode.UNKNOWN_WITNESS,
            expected="one of the agreement's witnesses",
            found=repr(name[:80]),
            remedy="only a successor agreement can add a witness",
        )

    def silo(self, name: str) -> SiloTerms:
        """The terms of one silo; raises `RefusedError` (unknown-silo)."""
        for silo in self.silos:
            if silo.name == name:
                return silo
        raise refuse(
            RefusalCode.UNKNOWN_SILO,
            expected="one of the agreement's silos",
            found=repr(name[:80]),
            remedy="only a successor agreement can add a silo",
        )

    def cohort_is_sufficient(self, names: Iterable[str]) -> bool:
        """Whether these silos' updates may be summed: enough distinct owners, and no weight that drowns the others.

        A silo counts once, however often it is named. Raises `RefusedError` for a silo that the agreement doesn't name.
        """
        cohort = [self.silo(name) for name in dict.fromkeys(names)]
        owners = {silo.owner for silo in cohort}
        minimum = self.federation.minimum_cohort
        return len(owners) >= minimum and effective_cohort(silo.weight for silo in cohort) >= minimum


def effective_cohort(weights: Iterable[float]) -> Fraction:
    """(Σw)²/Σw², exactly: how many equal silos would hide one another as well as these do. 0 for none.

    Kish's effective sample size. Exact, so that three equal weights of 0.1 make 3 and not a little less.
    """
    exact = [Fraction(weight) for weight in weights]
    squares = sum((weight**2 for weight in exact), Fraction(0))
    return sum(exact, Fraction(0)) ** 2 / squares if exact else squares


def mismatch(ours: bytes, theirs: bytes) -> RefusedError:
    """The refusal between two parties with different agreements, naming both digests (32 bytes each)."""
    return refuse(
        RefusalCode.AGREEMENT_MISMATCH,
        expected=f"agreement {format_digest(ours)}",
        found=f"agreement {format_digest(theirs)}",
        remedy="compare the two files byte for byte (strongroom agreement digest FILE)",
    )


def _read_appliance(fields: Fields, file: str) -> tuple[ReferenceValues, ...]:
    tees = _read_tees(fields, "appliance.tee", f"{file}: [[appliance.tee]]", _APPLIANCE_TEES)
    fields.close()
    return tuple(values for values in tees if values is not None)


def _read_tees(
    fields: Fields, heading: str, where: str, allowed: tuple[Tee, ...]
) -> tuple[ReferenceValues | None, ...]:
    tables = tables_of(fields, "tee", heading, MAXIMUM_TEES)
    places = [f"{where} #{number}" for number in range(1, len(tables) + 1)]
    tees = tuple(read_tee(fields_of(table, place), place, allowed) for table, place in zip(tables, places, strict=True))
    if None in tees and len(tees) > 1:
        raise AgreementError(f'{where}: expected tee = "none" alone, found it beside others, which it would void')
    return tees


def _read_silos(root: Fields, file: str) -> tuple[SiloTerms, ...]:
    tables = tables_of(root, "silo", "silo", MAXIMUM_SILOS)
    return tuple(_read_silo(table, number, file) for number, table in enumerate(tables, start=1))


def _read_silo(table: object, number: int, file: str) -> SiloTerms:
    name = fields_of(table, f"{file}: [[silo]] #{number}").name("name")
    where = f'{file}: [[silo]] "{name}"'
    fields = fields_of(table, where)
    silo = SiloTerms(
        name=fields.name("name"),
        owner=fields.name("owner"),
        jurisdiction=jurisdiction(fields),
        identity=identity_key(fields, "identity"),
        weight=positive(fields, "weight"),
        tees=_read_tees(fields, "silo.tee", f'{file}: [[silo.tee]] "{name}"', _SILO_TEES),
    )
    fields.close()
    return silo


def _check_unique(agreement: Agreement, file: str) -> None:
    names: set[str] = set()
    keys: dict[VerifyingKey, str] = {}
    for number, silo in enumerate(agreement.silos, start=1):
        if silo.name in names:
            raise AgreementError(
                f'{file}: [[silo]] #{number} name: expected one that no other silo has, found "{silo.name}" again'
            )
        if silo.identity in keys:
            raise AgreementError(
                f'{file}: [[silo]] "{silo.name}" identity: expected a key that no other silo has, '
                f'found that of "{keys[silo.identity]}"'
            )
        names.add(silo.name)
        keys[silo.identity] = silo.name


def _check_cohort(agreement: Agreement, file: str) -> None:
    minimum, owners = agreement.federation.minimum_cohort, len(agreement.owners)
    if minimum > owners:
        raise AgreementError(
            f"{file}: [federation] minimum_cohort: expected at most {owners}, the number of owners, found {minimum}"
        )
    effective = effective_cohort(silo.weight for silo in agreement.silos)
    if effective < minimum:
        raise AgreementError(
            f"{file}: [[silo]] weight: expected (Σw)²/Σw² of all silos to reach minimum_cohort ({minimum}), "
            f"or a heavy silo would stand alone, found {float(effective):.6g}"
        )


def _check_quorum(agreement: Agreement, file: str) -> None:
    """2q − W > f: any two quorums share an owner who neither colludes nor forgot, so that no fork gets two quorums."""
    quorum, faulty, owners = agreement.log.cosigners, agreement.log.faulty, len(agreement.owners)
    if faulty >= owners:
        raise AgreementError(f"{file}: [log] faulty: expected fewer than the {owners} owners, found {faulty}")
    if quorum > owners:
        raise AgreementError(
            f"{file}: [log] cosigners: expected at most {owners}, the number of owners, found {quorum}"
        )
    if 2 * quorum - owners <= faulty:
        raise AgreementError(
            f"{file}: [log] cosigners: expected 2 × cosigners − owners ({owners}) > faulty ({faulty}), "
            f"that is at least {(owners + faulty) // 2 + 1}, found {quorum}"
        )


def _check_witnesses(agreement: Agreement, file: str) -> None:
    """A witness is nobody who has a vote already, and there is a line for each in a note."""
    log = agreement.log
    names = {silo.name: f'silo "{silo.name}"' for silo in agreement.silos}
    keys = {silo.identity: f'silo "{silo.name}"' for silo in agreement.silos}
    key_names: set[str] = set()
    for number, witness in enumerate(log.witnesses, start=1):
        place = f"{file}: [[log.witness]] #{number}"
        if witness.name in names:
            raise AgreementError(
                f"{place} name: expected one that nobody else has, found that of {names[witness.name]}"
            )
        if witness.key in keys:
            raise AgreementError(f"{place} key: expected one that nobody else has, found that of {keys[witness.key]}")
        if witness.key_name == log.origin or witness.key_name.startswith(f"{log.origin}/"):
            raise AgreementError(
                f"{place} key: expected a key name of the witness's own, found one of this log, {witness.key_name!r}"
            )
        if witness.key_name in key_names:
            raise AgreementError(f"{place} key: expected another key name, found {witness.key_name!r} again")
        names[witness.name] = keys[witness.key] = f'witness "{witness.name}"'
        key_names.add(witness.key_name)
    if log.cosigners + len(log.witnesses) > MAXIMUM_COSIGNERS:
        raise AgreementError(
            f"{file}: [log] cosigners: expected at most {MAXIMUM_COSIGNERS} together with the witnesses, "
            f"found {log.cosigners} and {len(log.witnesses)}"
        )


def _check_simulated(agreement: Agreement, file: str) -> None:
    tees = [(f"{file}: [[appliance.tee]] #{number}", values) for number, values in enumerate(agreement.appliance, 1)]
    for silo in agreement.silos:
        place = f'{file}: [[silo.tee]] "{silo.name}"'
        tees += [(f"{place} #{number}", values) for number, values in enumerate(silo.reference_values, 1)]
    simulated = any(values.tee.simulated for _, values in tees)
    for place, values in tees:
        if simulated and not values.tee.simulated:
            raise AgreementError(
                f'{place} tee: expected "simulated" like another in this file (never beside a real one), '
                f'found "{values.tee}"'
            )
    if agreement.log.origin.startswith(SIMULATED_PREFIX) is not simulated:
        expected = f'to start with "{SIMULATED_PREFIX}"' if simulated else f'not to start with "{SIMULATED_PREFIX}"'
        reason = "as the TEEs are simulated" if simulated else "as no TEE is simulated"
        raise AgreementError(f'{file}: [log] origin: expected {expected}, {reason}, found "{agreement.log.origin}"')

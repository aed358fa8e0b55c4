"""`tee = "nitro"`: registers in hexadecimal, or "any" for those that say where the enclave runs."""

from attestation.nitro.document import PCR_BYTES
from attestation.nitro.reference_values import CERTIFICATE_SECONDS, NitroReferenceValues, Presence
from attestation.tee import Tee
from attestation.terms import Covers, Revocation
from protocol.agreement_toml import toml_string
from protocol.fields import Fields
from protocol.tee_tables.lists import (
    hexadecimal_list,
    hexadecimal_list_or_any,
    hexadecimals,
    hexadecimals_or_any,
    string_list_or_any,
    texts_or_any,
)
from protocol.tee_tables.row import Row


def rows(values: NitroReferenceValues) -> list[Row]:
    """The lines of the table but `tee`, which `read` reads back to equal values."""
    return [
        Row("pcr0", hexadecimal_list(values.pcr0), "the enclave's image"),
        Row("pcr1", hexadecimal_list(values.pcr1), "its kernel and boot RAM disk"),
        Row("pcr2", hexadecimal_list(values.pcr2), "its application"),
        Row("pcr3", hexadecimal_list_or_any(values.pcr3), 'the instance\'s IAM role, or "any"; zero where it has none'),
        Row("pcr4", hexadecimal_list_or_any(values.pcr4), 'the instance, or "any"'),
        Row("pcr8", hexadecimal_list_or_any(values.pcr8), 'who signed the image, or "any"; zero where nobody did'),
        Row(
            "module_ids", string_list_or_any(values.module_ids), 'enclaves by name, or "any": each launch has a new one'
        ),
        Row("maximum_age_seconds", str(values.maximum_age_seconds), "how old a document may be when it is judged"),
        Row("nonce", toml_string(values.nonce), 'a nonce beside the user data: "absent" or "any"'),
        Row("public_key", toml_string(values.public_key), 'a public key beside the user data: "absent" or "any"'),
        Row("revocation", toml_string(values.revocation), "AWS publishes no lists; certificates live three hours"),
        Row("covers", toml_string(values.covers), 'how far the registers reach: "code", or "firmware-only"'),
    ]


def read(fields: Fields, where: str, tee: Tee) -> NitroReferenceValues:
    """The keys of one table but `tee`; raises `AgreementError`, `ReferenceValuesError`."""
    return NitroReferenceValues(
        tee=tee,
        pcr0=hexadecimals(fields, "pcr0", PCR_BYTES),
        pcr1=hexadecimals(fields, "pcr1", PCR_BYTES),
        pcr2=hexadecimals(fields, "pcr2", PCR_BYTES),
        pcr3=hexadecimals_or_any(fields, where, "pcr3", PCR_BYTES),
        pcr4=hexadecimals_or_any(fields, where, "pcr4", PCR_BYTES),
        pcr8=hexadecimals_or_any(fields, where, "pcr8", PCR_BYTES),
        module_ids=texts_or_any(fields, where, "module_ids"),
        maximum_age_seconds=fields.integer("maximum_age_seconds", maximum=CERTIFICATE_SECONDS),
        nonce=Presence(fields.choice("nonce", tuple(Presence))),
        public_key=Presence(fields.choice("public_key", tuple(Presence))),
        revocation=Revocation(fields.choice("revocation", tuple(Revocation))),
        covers=Covers(fields.choice("covers", tuple(Covers))),
    )

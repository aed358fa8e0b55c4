"""Real quotes of TDX and SGX that are accepted, for tests, fuzzers and benchmarks that go through them all."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from attestation_cases.good_case import GoodCase, PublishedCase

from attestation import Evidence, Tee
from attestation.dcap.enclave_report import ENCLAVE_REPORT_BYTES
from attestation.dcap.intel_json import TcbStatus
from attestation.dcap.quote import Quote
from attestation.dcap.reference import reference_values_of
from attestation.dcap.roots import intel_root
from attestation.reference_values import (
    KssReferenceValues,
    PlatformReferenceValues,
    SgxReferenceValues,
    TdxReferenceValues,
)

DATA = Path(__file__).parents[1] / "vectors" / "data" / "dcap"
_OPEN_ENCLAVE_HEADER_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Case(PublishedCase):
    """A public vector: a quote."""

    quote: bytes

    @property
    def tee(self) -> Tee:
        return Tee(self.facts["tee"])

    def evidence(self) -> Evidence:
        return Evidence(tee=self.tee, report=self.quote, endorsements=self.endorsements)


def read_quote(path: str, form: str) -> bytes:
    """The quote in a file of vectors, in the form in which it is written there."""
    data = (DATA / path).read_bytes()
    carrier, _, key = form.partition(":")
    if carrier in ("json", "oe-json"):
        data = bytes.fromhex(json.loads(data)[key])
    elif carrier == "hex":
        data = bytes.fromhex(data.decode().strip().removeprefix("0x"))
    elif carrier == "base64":
        data = base64.b64decode(data)
    return data[_OPEN_ENCLAVE_HEADER_BYTES:] if carrier.startswith("oe") else data


def read_endorsement(path: str) -> bytes:
    """A file of vectors, or one field of a bundle."""
    name, _, key = path.partition("#")
    data = (DATA / name).read_bytes()
    if not key:
        return data
    bundle = json.loads(data)
    if f"{key}_signature" in bundle:
        name = "tcbInfo" if key == "tcb_info" else "enclaveIdentity"
        return f'{{"{name}":{bundle[key]},"signature":"{bundle[f"{key}_signature"]}"}}'.encode()
    return bundle[key].encode()


def load_cases() -> list[Case]:
    """All public vectors."""
    return [
        Case(
            name=case["name"],
            quote=read_quote(case["evidence"], case["form"]),
            endorsements=tuple(read_endorsement(path) for path in case["endorsements"]),
            facts=case,
        )
        for case in json.loads((DATA / "cases.json").read_text())
    ]


def values_for(case: Case) -> TdxReferenceValues | SgxReferenceValues:
    """What an agreement that wants exactly this TD or enclave on this platform would say."""
    return reference_values_of(Quote.parse(case.quote), case.endorsements, intel_root())


def signed_ranges(report: bytes) -> tuple[range, ...]:
    """Header and body, then everything that the attestation key and the platform's key stand for."""
    quote = Quote.parse(report)
    start = len(quote.signed) + 4
    inner = start + 128 + (6 if quote.header.version > 3 else 0)
    auth_data = inner + ENCLAVE_REPORT_BYTES + 64 + 2
    return (
        range(len(quote.signed)),
        range(start, start + 128),
        range(inner, inner + ENCLAVE_REPORT_BYTES + 64),
        range(auth_data, auth_data + len(quote.qe_auth_data)),
    )


def report_data_of(report: bytes) -> bytes | None:
    """What the quote commits to, or None where it is zero."""
    found = Quote.parse(report).body.report_data
    return found if any(found) else None


def good_cases() -> Iterator[GoodCase]:
    """Every vector that is accepted by somebody."""
    for case in load_cases():
        if case.facts["failure"] is None:
            yield GoodCase(
                case.name,
                case.evidence(),
                values_for(case),
                report_data_of(case.quote),
                case.time,
                signed_ranges(case.quote),
            )


def changed_values(
    good: TdxReferenceValues | SgxReferenceValues,
) -> Iterator[tuple[str, TdxReferenceValues | SgxReferenceValues]]:
    """The reference values with one field changed, under the name that the refusal must have."""
    for name, platform in _changed_platforms(good.platform):
        yield name, replace(good, platform=platform)
    if isinstance(good, TdxReferenceValues):
        yield from _changed_tdx(good)
    else:
        yield from _changed_sgx(good)


def _changed_platforms(good: PlatformReferenceValues) -> Iterator[tuple[str, PlatformReferenceValues]]:
    other = next(status for status in TcbStatus if status not in good.tcb_statuses)
    yield "tcb_statuses", replace(good, tcb_statuses=(other,))
    if good.advisory_ids:
        yield "advisory_ids", replace(good, advisory_ids=good.advisory_ids[1:])
        yield "advisory_ids", replace(good, advisory_ids=())
    number = good.minimum_tcb_evaluation_data_number
    yield (
        "minimum_tcb_evaluation_data_number",
        replace(good, minimum_tcb_evaluation_data_number=number + 1),
    )
    for name in ("dynamic_platform", "cached_keys", "smt"):
        if getattr(good, name):
            yield name, replace(good, **{name: False})
    yield "fmspcs", replace(good, fmspcs=_changed(good.fmspcs))
    yield "ppids", replace(good, ppids=_changed(good.ppids))


def _changed_tdx(good: TdxReferenceValues) -> Iterator[tuple[str, TdxReferenceValues]]:
    for name in ("xfam", "mr_seam", "mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        yield name, replace(good, **{name: _changed(getattr(good, name))})
    other = int.from_bytes(good.td_attributes[0], "little") ^ 1 << 30
    yield "td_attributes", replace(good, td_attributes=(other.to_bytes(8, "little"),))
    for name in ("mr_config_id", "mr_owner", "mr_owner_config", "mr_service_td"):
        yield name, replace(good, **{name: _changed((getattr(good, name),))[0]})


def _changed_sgx(good: SgxReferenceValues) -> Iterator[tuple[str, SgxReferenceValues]]:
    for name in ("mr_enclave", "mr_signer", "xfrm", "misc_select"):
        yield name, replace(good, **{name: _changed(getattr(good, name))})
    yield "attributes", replace(good, attributes=(bytes([good.attributes[0][0] ^ 0x10]) + good.attributes[0][1:],))
    yield "isv_prod_id", replace(good, isv_prod_id=good.isv_prod_id ^ 1)
    yield "minimum_isv_svn", replace(good, minimum_isv_svn=good.minimum_isv_svn + 1)
    if isinstance(good.kss, KssReferenceValues):
        for name in ("config_id", "isv_ext_prod_id", "isv_family_id"):
            other = replace(good.kss, **{name: _changed((getattr(good.kss, name),))[0]})
            yield f"kss.{name}", replace(good, kss=other)
        later = replace(good.kss, minimum_config_svn=good.kss.minimum_config_svn + 1)
        yield "kss.minimum_config_svn", replace(good, kss=later)


def _changed(values: object) -> tuple[bytes, ...]:
    assert isinstance(values, tuple)
    (value,) = values
    return (bytes([value[0] ^ 1]) + value[1:],)

"""Evidence on the wire: canonical JSON, one spelling, nothing unknown."""

import json

import pytest

from attestation import Evidence, EvidenceMalformed, Tee
from attestation.evidence import MAXIMUM_EVIDENCE_BYTES

GOOD = {"endorsements": ["AQI="], "report": "AAEC", "tee": "simulated", "version": 1}


def spelled(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_it_is_canonical_json() -> None:
    evidence = Evidence(tee=Tee.SIMULATED, report=b"\0\1\2", endorsements=(b"\1\2",))
    assert evidence.encode() == b'{"endorsements":["AQI="],"report":"AAEC","tee":"simulated","version":1}'
    assert Evidence.parse(evidence.encode()) == evidence


@pytest.mark.parametrize(
    "data",
    [
        spelled({**GOOD, "note": "hello"}),
        spelled({key: value for key, value in GOOD.items() if key != "endorsements"}),
        spelled({**GOOD, "version": 2}),
        spelled({**GOOD, "version": True}),
        spelled({**GOOD, "version": 1.0}),
        spelled({**GOOD, "tee": "none"}),
        spelled({**GOOD, "tee": "SIMULATED"}),
        spelled({**GOOD, "tee": ["simulated"]}),
        spelled({**GOOD, "tee": {"simulated": 1}}),
        spelled({**GOOD, "report": "AAE"}),
        spelled({**GOOD, "report": "AA EC"}),
        spelled({**GOOD, "report": "AAED\n"}),
        spelled({**GOOD, "report": "AAH="}),
        spelled({**GOOD, "report": None}),
        spelled({**GOOD, "report": "\udcff"}),
        spelled({**GOOD, "endorsements": "AQI="}),
        spelled({**GOOD, "endorsements": ["AQI="] * 17}),
        spelled({**GOOD, "endorsements": [1]}),
        json.dumps(GOOD).encode(),
        spelled(GOOD) + b"\n",
        b"\xef\xbb\xbf" + spelled(GOOD),
        spelled(GOOD).replace(b'"version":1', b'"version":1,"version":1'),
        spelled(GOOD).replace(b"simulated", b"simul\\u0061ted"),
        spelled(GOOD).decode().encode("utf-16"),
        b"",
        b"null",
        b"[" * 100_000,
        b'{"version":' + b"1" * 5000 + b"}",
        b" " * (MAXIMUM_EVIDENCE_BYTES + 1),
    ],
    ids=range(29),
)
def test_another_spelling_is_malformed(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        Evidence.parse(data)


def test_no_tee_has_no_evidence() -> None:
    with pytest.raises(EvidenceMalformed, match="tee: expected a TEE that makes evidence, found none"):
        Evidence(tee=Tee.NONE, report=b"", endorsements=())


def test_errors_name_the_key_and_both_values() -> None:
    with pytest.raises(EvidenceMalformed, match="tee: expected sev-snp or tdx or .* or none, found 'trustzone'"):
        Evidence.parse(spelled({**GOOD, "tee": "trustzone"}))

"""The folder of endorsements: what is in it goes along, what can't be is said with the file's name."""

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.collect.endorsements import LARGEST_FILE_BYTES, LARGEST_SUM_BYTES, EndorsementFolder
from attestation.collect.errors import CollectionFailed
from attestation.evidence import MAXIMUM_EVIDENCE_BYTES, Evidence
from attestation.simulated.chip import simulated_chip
from attestation.simulated.roots import simulated_roots
from attestation.tee import Tee

VCEK = simulated_chip().endorsement
CHAIN = simulated_roots().chains[0]


def read(folder: Path) -> tuple[bytes, ...]:
    return EndorsementFolder(folder).read()


def test_no_folder_holds_nothing() -> None:
    assert EndorsementFolder(None).read() == ()


def test_pem_der_and_json_in_the_order_of_their_names_each_once(tmp_path: Path) -> None:
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in (CHAIN.intermediate, CHAIN.ark))
    (tmp_path / "b.pem").write_bytes(pem)
    (tmp_path / "a.der").write_bytes(VCEK)
    (tmp_path / "c.json").write_bytes(b'{"tcbInfo": {}}')
    (tmp_path / "d.pem").write_bytes(x509.load_der_x509_certificate(VCEK).public_bytes(Encoding.PEM))
    (tmp_path / ".hidden").write_bytes(b"editor's leftovers")
    assert read(tmp_path) == (
        VCEK,
        CHAIN.intermediate.public_bytes(Encoding.DER),
        CHAIN.ark.public_bytes(Encoding.DER),
        b'{"tcbInfo": {}}',
    )


def test_it_is_read_afresh_each_time(tmp_path: Path) -> None:
    folder = EndorsementFolder(tmp_path)
    assert folder.read() == ()
    (tmp_path / "crl.der").write_bytes(b"one")
    assert folder.read() == (b"one",)
    (tmp_path / "crl.der").write_bytes(b"two")
    assert folder.read() == (b"two",)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(CollectionFailed, match="none: expected a folder of endorsements, found No such file"):
        read(tmp_path / "none")


def test_a_file_that_is_none_is_said_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CollectionFailed, match="pipe: expected a file, found something else"):
        read(tmp_path)
    (tmp_path / "pipe").unlink()
    (tmp_path / "folder").mkdir()
    with pytest.raises(CollectionFailed, match=r"folder: expected a .*file, found"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty: expected a certificate, a revocation list or JSON, found nothing"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "CERTIFICATE or X509 CRL"),
        (bytes(LARGEST_FILE_BYTES + 1), f"empty: expected at most {LARGEST_FILE_BYTES} bytes, found more"),
    ],
)
def test_a_file_of_the_wrong_kind_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "empty").write_bytes(content)
    with pytest.raises(CollectionFailed, match=words):
        read(tmp_path)


def test_too_many_are_said(tmp_path: Path) -> None:
    for number in range(17):
        (tmp_path / f"{number:02}").write_bytes(b"%d" % number)
    with pytest.raises(CollectionFailed, match="at most 16 endorsements .* found 17"):
        read(tmp_path)
    for number in range(17, 65):
        (tmp_path / f"{number:02}").write_bytes(b"%d" % number)
    with pytest.raises(CollectionFailed, match="at most 64 files, found 65"):
        read(tmp_path)


def test_what_is_read_fits_into_evidence(tmp_path: Path) -> None:
    half = LARGEST_SUM_BYTES // 2
    for number in range(2):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * half)
    evidence = Evidence(tee=Tee.TDX, report=bytes(8192), endorsements=read(tmp_path))
    assert len(evidence.encode()) <= MAXIMUM_EVIDENCE_BYTES
    (tmp_path / "2").write_bytes(b"x")
    with pytest.raises(CollectionFailed, match=f"of {LARGEST_SUM_BYTES} bytes together"):
        read(tmp_path)

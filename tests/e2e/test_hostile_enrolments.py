"""Silos that should not be let in, and a real appliance: what each is told, and what the log says of it.

Beside what is tried at the enrolment port: second enrolments, credentials that are none, a restart, somebody between.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import torch
from agreement_examples import MEASUREMENT, identity, tee_table
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from enrolment_attacks import LOGGED, NEIGHBOUR, OTHER_CODE, SILO, UNLOGGED, Attack, House, again, replayed
from enrolment_by_hand import logged_object
from false_appliance import FalsePort, listening
from hostile_scene import audit_of
from least_squares_oracle import TASK
from process_federation import PATIENCE_SECONDS, Running, federation, wait_until
from silo_by_hand import UNSIGNED, HandSilo, Wire

from attestation.collect.measurement import installed_code, measure
from audit.entries import SiloAdmitted, SiloRefused
from protocol.credentials import CertificateAuthority, CredentialKey, new_credential_key, pem_of
from protocol.enrolment import Enrol
from protocol.errors import RefusedError
from protocol.wire import strongroom_pb2 as pb
from silo_client.channel import Credential

torch.set_num_threads(1)
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
OUTDATED = "silo-3"
Forgery = Callable[[House, HandSilo], tuple[CredentialKey, bytes]]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    # The agreement knows other code of silo-3 than runs there.
    table = f'identity = "{identity(OUTDATED)}"\nweight = 1.0\n{tee_table("silo.tee")}'
    replaced = {table: table.replace(MEASUREMENT, OTHER_CODE.hex())}
    network = torch.nn.Linear(3, 1, bias=False)
    with federation(network=network, task=TASK, replace=replaced, owners=OWNERS) as made:
        house = House(made, made.start_appliance())
        # What the log has of good enrolments, everybody can copy.
        for name in (SILO, NEIGHBOUR):
            house.silo(name).enrol()
        yield house


# As an engineer meets it: the real command


def last_line(running: Running) -> str:
    return running.errors.splitlines()[-1]


def test_a_silo_that_is_what_the_agreement_says_is_admitted(house: House) -> None:
    enrolled = house.made.run(SILO, "silo", "enroll")
    assert enrolled.exit_code() == 0
    assert enrolled.output.startswith("silo-0 is admitted to 'digits'.")


def test_a_silo_with_another_agreement(house: House) -> None:
    before = len(house.made.log())
    theirs = house.made.change_a_byte(SILO, "changed.toml")
    house.made.write_silo(SILO, house.made.ports, file="other.toml", agreement="changed.toml", state="other")
    enrolled = house.made.run(SILO, "silo", "enroll", "--config", "other.toml")
    assert enrolled.exit_code() == 3
    assert last_line(enrolled) == (
        f"agreement-mismatch: expected agreement sha256:{house.made.agreement.digest.hex()}, found agreement {theirs}; "
        f"compare the two files byte for byte (strongroom agreement digest FILE){UNSIGNED}"
    )
    assert len(house.made.log()) == before


def test_a_silo_that_runs_other_code(house: House) -> None:
    """A silo that was updated, and the agreement was not."""
    enrolled = house.made.run(OUTDATED, "silo", "enroll")
    assert enrolled.exit_code() == 3
    assert last_line(enrolled) == (
        "evidence-refused: expected silo-3's evidence to be what the agreement accepts, found measurements: expected "
        f"{OTHER_CODE.hex()} (covers: code), found {measure(installed_code()).hex()}; "
        "compare silo-3's TEE with its [[silo.tee]] "
        f"in the agreement{UNSIGNED}"
    )
    refused = [entry for entry in house.made.entries(SiloRefused) if entry.silo == OUTDATED]
    assert [entry.code for entry in refused] == ["evidence-refused"]
    assert not [entry for entry in house.made.entries(SiloAdmitted) if entry.silo == OUTDATED]


@pytest.mark.parametrize("attack", UNLOGGED)
def test_is_turned_away_and_not_logged(house: House, attack: str) -> None:
    act, sentence = UNLOGGED[attack]
    enrolment = house.enrolment()
    told, logged = house.refused(lambda: act(enrolment, house))
    assert told.startswith(sentence)
    assert logged == []


USED = (
    "stale-nonce: expected a challenge: one that was not used yet, found one that was used before; enrol again from the"
)


@pytest.mark.parametrize("attack", [replayed, again])
def test_a_request_counts_once_whoever_sends_it_again(house: House, attack: Attack) -> None:
    enrolment = house.enrolment()
    told, logged = house.refused(lambda: attack(enrolment, house))
    assert told.startswith(USED)
    assert [type(entry) for entry in logged] == [SiloAdmitted]


@pytest.mark.parametrize("attack", LOGGED)
def test_is_refused_by_name_in_the_log(house: House, attack: str) -> None:
    make, sentence = LOGGED[attack]
    enrolment = house.enrolment()
    request = make(enrolment)
    told, logged = house.refused(lambda: enrolment.send(request))
    assert told.startswith(sentence)
    [entry] = logged
    assert isinstance(entry, SiloRefused)
    assert (entry.silo, entry.code) == (SILO, told.partition(":")[0])
    assert entry.request == enrolment.digest(request)
    assert Enrol.parse(logged_object(house.made, entry.request)[64:]) == request


# A second enrolment while the first session runs


def test_a_refused_second_enrolment_ends_no_session(house: House) -> None:
    """Neither by a stranger, nor by somebody with the silo's key and another one inside."""
    silo = HandSilo(house.made, SILO)
    silo.join()
    wait_until(lambda: house.joined() == (SILO,), "its session")
    for make in (LOGGED["another identity key inside the request"][0], LOGGED["evidence of other code"][0]):
        enrolment = house.enrolment()
        request = make(enrolment)
        house.refused(lambda: enrolment.send(request))  # noqa: B023
    house.refused(lambda: house.enrolment().hello(key="mallory"))
    silo.channel.send(silo.machine.join())
    with silo.wire() as wire:
        assert not wire.stub.UploadStatus(pb.UploadId(upload_id=bytes(16))).HasField("refusal")
    assert house.joined() == (SILO,)
    assert silo.channel.receive(0) is None
    silo.leave()


def test_a_second_process_with_the_silos_key_takes_its_place_in_words(house: House) -> None:
    """Whoever has the identity key is the silo; the first one's session ends as the second opens its own."""
    first, second = HandSilo(house.made, SILO), HandSilo(house.made, SILO)
    first.join()
    wait_until(lambda: house.joined() == (SILO,), "its session")
    second.join()
    with pytest.raises(RefusedError) as caught:
        first.channel.receive(PATIENCE_SECONDS)
    assert str(caught.value) == (
        "busy: expected one session a silo, found a newer session of the same silo; let one process take part for a "
        f"silo{UNSIGNED}"
    )
    wait_until(lambda: house.joined() == (SILO,), "the session of the second")
    second.leave()


# Credentials that are none


def own_authority(house: House, silo: HandSilo) -> tuple[CredentialKey, bytes]:
    """Of a certificate authority of one's own, in the name of the enclave's."""
    key, now = new_credential_key(), int(time.time())
    spiffe_id = house.made.agreement.spiffe_id(silo.name)
    authority = CertificateAuthority.create(house.made.agreement.log.origin, now)
    return key, pem_of(authority.issue(key.spki_der, spiffe_id, now - 60, now + 600))


def own_signature(house: House, silo: HandSilo) -> tuple[CredentialKey, bytes]:
    """Its own."""
    key = new_credential_key()
    return key, pem_of(key.gateway_certificate("silo-0", int(time.time())))


def by_its_neighbours_credential(house: House, silo: HandSilo) -> tuple[CredentialKey, bytes]:
    """Signed with a real credential, as if that were an authority."""
    issuer, now = silo.machine.enrolled.credential, datetime.now(UTC)
    certificate = x509.load_der_x509_certificate(issuer.certificate)
    private = load_pem_private_key(issuer.key.private_pem(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.subject)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(minutes=10))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(house.made.agreement.spiffe_id(NEIGHBOUR))]),
            critical=True,
        )
    )
    issued = builder.sign(private, hashes.SHA256())
    issued.verify_directly_issued_by(certificate)
    return issuer.key, pem_of(issued.public_bytes(Encoding.DER)) + pem_of(issuer.certificate)


@pytest.mark.parametrize("make", [None, own_authority, own_signature, by_its_neighbours_credential])
def test_without_a_credential_of_this_boots_authority_nobody_gets_past_tls(house: House, make: Forgery | None) -> None:
    silo = HandSilo(house.made, SILO)
    good = silo.enrol()
    with silo.wire() as wire:
        assert not wire.stub.UploadStatus(pb.UploadId(upload_id=bytes(16))).HasField("refusal")
    before = len(house.made.log())
    key, chain = (None, None) if make is None else make(house, silo)
    credential = None if key is None else replace(good, key=key)
    with Wire(house.made.ports, credential, chain) as wire, pytest.raises(grpc.RpcError) as caught:
        wire.stub.UploadStatus(pb.UploadId(upload_id=bytes(16)), timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(house.made.log()) == before


# Somebody in the middle, who ends TLS and passes on to the real appliance what he likes


@dataclass
class Middle:
    """`change` is what becomes of each `Welcome` on its way."""

    house: House
    change: Callable[[bytes], bytes]

    def hello(self, message: bytes) -> bytes:
        return self.change(self.house.silo().channel.hello(message))

    def enrol(self, sealed: bytes) -> bytes:
        return self.house.silo().channel.enrol(sealed)


def another_digit(welcome: bytes, field: bytes) -> bytes:
    """Another letter at the beginning of a field, so that it is as well-formed as before."""
    place = welcome.index(field) + len(field)
    return welcome[:place] + (b"b" if welcome[place : place + 1] == b"a" else b"a") + welcome[place + 1 :]


def test_somebody_in_the_middle_can_pass_on_and_nothing_else(house: House) -> None:
    made, recorded = house.made, house.enrolment().silo.channel.hello(HandSilo(house.made, SILO).machine.hello())
    middle = Middle(house, lambda welcome: welcome)
    with listening(FalsePort(middle.hello, middle.enrol)) as ports:
        made.write_silo(SILO, ports, file="middle.toml", state="middle-state")

        def enrol() -> tuple[int, str]:
            running = made.run(SILO, "silo", "enroll", "--config", "middle.toml")
            return running.exit_code(), last_line(running)

        assert enrol()[0] == 0
        for field in (b'"boot_id":"', b'"challenge":"', b'"evidence":"'):
            middle.change = lambda welcome, field=field: another_digit(welcome, field)  # type: ignore[misc]
            code, line = enrol()
            assert code == 3
            assert line.startswith("welcome: the signature is not by ed25519:")
        middle.change = lambda welcome: recorded
        code, line = enrol()
        assert code == 3
        assert line.startswith("stale-nonce: expected an answer to this silo's nonce, found an answer to another; ")


# A restart of the enclave: nothing of the boot before counts any more


@dataclass
class Restarted:
    """What was made for the boot before."""

    silo: HandSilo
    credential: Credential
    sealed: bytes
    challenge: bytes


@pytest.fixture(scope="module")
def restarted(house: House) -> Restarted:
    enrolment, silo = house.enrolment(), HandSilo(house.made, NEIGHBOUR)
    before = Restarted(
        silo=silo,
        credential=silo.enrol(),
        sealed=enrolment.sealed(enrolment.request()),
        challenge=enrolment.welcome.challenge,
    )
    house.restart()
    return before


def test_a_request_to_an_earlier_boot(house: House, restarted: Restarted) -> None:
    told, logged = house.refused(lambda: house.silo().channel.enrol(restarted.sealed))
    assert told.startswith("wrong-boot: expected a request sealed to boot ")
    assert told.endswith(f"; the appliance restarted; enrol again from the start{UNSIGNED}")
    assert logged == []


def test_a_challenge_of_an_earlier_boot(house: House, restarted: Restarted) -> None:
    enrolment = house.enrolment()
    told, logged = house.refused(lambda: enrolment.send(enrolment.request(challenge=restarted.challenge)))
    assert told.startswith(UNLOGGED["its neighbour's challenge"][1])
    assert logged == []


def test_a_credential_of_an_earlier_boot(house: House, restarted: Restarted) -> None:
    with Wire(house.made.ports, restarted.credential) as wire, pytest.raises(grpc.RpcError) as caught:
        wire.stub.UploadStatus(pb.UploadId(upload_id=bytes(16)), timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    restarted.silo.join()
    wait_until(lambda: NEIGHBOUR in house.joined(), "the silo's session in the new boot")
    restarted.silo.leave()


@pytest.mark.slow
def test_a_challenge_that_has_expired(house: House) -> None:
    enrolment = house.enrolment()
    request = enrolment.request()
    expiry = int.from_bytes(enrolment.welcome.challenge[:8], "big")
    wait_until(lambda: time.time() > expiry + 1, "the challenge to expire", seconds=200)
    told, logged = house.refused(lambda: enrolment.send(request))
    assert told.startswith("stale-nonce: expected a challenge: one at most 120 s old, found one that expired ")
    assert logged == []


def test_the_audit_passes_and_has_every_refusal(house: House) -> None:
    told = audit_of(house.made)
    assert told.splitlines()[0].startswith("PASS (simulated: protects nothing)")
    assert len(house.made.entries(SiloRefused)) > 1

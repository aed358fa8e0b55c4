"""Appliances that are not what the agreement asks for, in front of the real `strongroom silo enroll`.

A false appliance has a log, keys and simulated evidence, which anybody can make. The silo's engineer reads one line and
an exit code, and no enrolment request has left the silo.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from agreement_examples import good_agreement, tee_table
from click.testing import CliRunner
from false_appliance import FalsePort, Liar, accepting, genuine, listening
from least_squares_oracle import TASK
from process_federation import ProcessFederation, Running, federation

from attestation.collect.platform import Platform, SimulatedPlatform
from attestation.evidence import Evidence
from attestation.report_data import report_data
from attestation.tee import Tee
from protocol.agreement_tees import render_tee
from protocol.enrolment import Hello
from protocol.errors import RefusalCode
from protocol.keys import SigningKey
from protocol.signed import unverified_body
from protocol.wire import strongroom_pb2 as pb
from strongroom.cli import cli

torch.set_num_threads(1)
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
SILO, STATE = "silo-0", "false-state"
DEBUG = 0x30000 | 1 << 19


@dataclass
class Front:
    """A false appliance where silo-0 looks for its own."""

    made: ProcessFederation
    liar: Liar
    port: FalsePort

    def enrol(self, file: str = "false.toml") -> tuple[int, str, Running]:
        """The real command: its exit code, the last line that it says, and the rest of it."""
        running = self.made.run(SILO, "silo", "enroll", "--config", file)
        code = running.exit_code()
        return code, running.errors.splitlines()[-1], running

    def refused_before_anything_was_sent(self) -> tuple[int, str]:
        """Exit code and last line; the silo has told the appliance nothing and remembers nothing of it."""
        sent = len(self.port.heard)
        code, line, running = self.enrol()
        assert len(self.port.heard) == sent
        assert not list((self.made.folder / SILO / STATE).rglob("state.json"))
        assert "Traceback" not in running.errors
        assert running.output == ""
        return code, line


def false_appliance(made: ProcessFederation) -> Iterator[Front]:
    liar = Liar(made)
    port = FalsePort(liar.welcome, liar.admit)
    with listening(port) as ports:
        made.write_silo(SILO, ports, file="false.toml", state=STATE)
        made.write_silo(SILO, ports, file="again.toml", state="other-state")
        yield Front(made, liar, port)


@pytest.fixture(scope="module")
def vendor() -> Iterator[Front]:
    """An agreement that asks the appliance for real hardware; its silos have none."""
    table = {tee_table("appliance.tee", "sev-snp"): render_tee(accepting(genuine()), "appliance.tee")}
    network = torch.nn.Linear(3, 1, bias=False)
    example = {"tee": "sev-snp", "silo_tee": "none", "owners": OWNERS}
    with federation(network=network, task=TASK, replace=table, **example) as made:
        made.serve()
        yield from false_appliance(made)


@pytest.fixture(scope="module")
def simulated(vendor: Front) -> Iterator[Front]:
    # After `vendor`, whose appliance finds out meanwhile that it can't start.
    network = torch.nn.Linear(3, 1, bias=False)
    with federation(network=network, task=TASK, replace={}, owners=OWNERS) as made:
        yield from false_appliance(made)


@pytest.fixture(autouse=True)
def honest_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"simulated", "vendor"} & set(request.fixturenames):
        front = request.getfixturevalue(name)
        front.port.hello, front.port.enrol = front.liar.welcome, front.liar.admit


EVIDENCE = "evidence-refused: expected the appliance's evidence to be what the agreement accepts, found "
NOTHING = "; do not send anything to this appliance; compare its evidence with [[appliance.tee]] in the agreement"
OTHER_CODE = bytes.fromhex("a5" * 48)


def code_of(front: Front) -> bytes:
    return front.made.agreement.appliance[0].measurements[0]


@pytest.mark.parametrize("which", ["other code", "a debugger", "a privilege level", "a policy"])
def test_evidence_of_another_guest(simulated: Front, which: str) -> None:
    ours = code_of(simulated)
    platform, found = {
        "other code": (
            SimulatedPlatform(OTHER_CODE),
            f"measurements: expected {ours.hex()} (covers: code), found {'a5' * 48}",
        ),
        "a debugger": (SimulatedPlatform(ours, policy=DEBUG), "policy.debug: expected 0, found 1 in "),
        "a privilege level": (SimulatedPlatform(ours, vmpl=2), "vmpl: expected 0, found 2"),
        "a policy": (SimulatedPlatform(ours, policy=0x20000), "policies: expected "),
    }[which]
    simulated.port.hello = lambda message: simulated.liar.with_platform(platform, message)
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith(EVIDENCE + found)
    assert line.endswith(NOTHING)


def test_evidence_over_another_nonce(simulated: Front) -> None:
    def hello(message: bytes) -> bytes:
        liar = simulated.liar
        return liar.welcome(message, evidence=liar.evidence(liar.honest(message), os.urandom(32)))

    simulated.port.hello = hello
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith(EVIDENCE + "report_data: expected ")


def test_a_welcome_that_somebody_recorded(simulated: Front) -> None:
    """Word for word what the appliance once answered this very silo."""
    recorded = []
    simulated.port.hello = lambda message: recorded.append(simulated.liar.welcome(message)) or recorded[0]
    assert simulated.enrol("again.toml")[0] == 0
    code, line, _ = simulated.enrol("again.toml")
    assert code == 3
    assert line == (
        "stale-nonce: expected an answer to this silo's nonce, found an answer to another; somebody repeats an old "
        "welcome: enrol again, over another network if it persists"
    )


@pytest.mark.parametrize("role", ["signing", "log", "sealing", "ca"])
def test_a_key_that_the_evidence_does_not_vouch_for(simulated: Front, role: str) -> None:
    """Good evidence of the right code, relayed with one key of the attacker's."""
    own = SigningKey(os.urandom(32))

    def hello(message: bytes) -> bytes:
        honest = simulated.liar.honest(message)
        value = own.public.raw if role in ("signing", "log") else getattr(honest.keys, role)[::-1]
        keys = replace(honest.keys, **{role: value})
        signer = own if role == "signing" else None
        return simulated.liar.welcome(message, keys=keys, evidence=honest.evidence, signer=signer)

    simulated.port.hello = hello
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith(EVIDENCE + "report_data: expected ")


@pytest.mark.parametrize(
    "changes",
    [{"purpose": "boot"}, {"purpose": "genesis"}, {"role": "silo", "party": SILO}, {"party": "simulated.elsewhere"}],
    ids=lambda changes: " ".join(changes.values()),
)
def test_evidence_that_was_made_for_something_else(simulated: Front, changes: dict[str, str]) -> None:
    """Such as lies in the log for everybody to copy; here even over the silo's own nonce."""

    def hello(message: bytes) -> bytes:
        honest = simulated.liar.honest(message)
        terms = {"role": "appliance", "purpose": "enrolment", "party": honest.origin, **changes}
        committed = report_data(
            agreement=honest.agreement,
            boot_id=honest.boot_id,
            nonce=Hello.parse(unverified_body(message)).nonce,
            keys=honest.keys.by_role(),
            **terms,
        )
        return simulated.liar.welcome(message, evidence=simulated.liar.platform.evidence(committed).encode())

    simulated.port.hello = hello
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith(EVIDENCE + "report_data: expected ")


def test_a_welcome_that_nobody_signed(simulated: Front) -> None:
    simulated.port.hello = lambda message: bytes(64) + simulated.liar.welcome(message)[64:]
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith("welcome: the signature is not by ed25519:")


def test_a_welcome_with_a_bit_changed_on_the_way(simulated: Front) -> None:
    def hello(message: bytes) -> bytes:
        welcome = bytearray(simulated.liar.welcome(message))
        place = welcome.index(b'"challenge":"') + 14
        welcome[place] = ord("B") if welcome[place] == ord("A") else ord("A")
        return bytes(welcome)

    simulated.port.hello = hello
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert "welcome" in line


def test_another_agreement(simulated: Front) -> None:
    simulated.port.hello = lambda message: simulated.liar.welcome(message, agreement=b"\x0a" * 32)
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line == (
        f"agreement-mismatch: expected agreement sha256:{simulated.made.agreement.digest.hex()}, found agreement "
        f"sha256:{'0a' * 32}; compare the two files byte for byte (strongroom agreement digest FILE)"
    )


def test_another_log(simulated: Front) -> None:
    simulated.port.hello = lambda message: simulated.liar.welcome(message, origin="simulated.elsewhere.example/digits")
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 4
    assert line == (
        "other-log: expected the log simulated.strongroom.example/digits, found simulated.elsewhere.example/digits; "
        "check the appliance's address in silo.toml"
    )


def test_a_checkpoint_by_another_key(simulated: Front) -> None:
    other = Liar(simulated.made)
    note = other.log.checkpoint.decode()
    simulated.port.hello = lambda message: simulated.liar.welcome(message, checkpoint=note)
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith("note: expected a signature by a known key")


@pytest.mark.parametrize("evidence", [b"{}", b"\x00" * 1184])
def test_evidence_that_is_none(simulated: Front, evidence: bytes) -> None:
    simulated.port.hello = lambda message: simulated.liar.welcome(message, evidence=evidence)
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith("evidence-malformed: expected the appliance's evidence to be what the agreement accepts")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "signed message: expected over 64 bytes, found 0"),
        (bytes(200), "welcome: JSON: expected a canonical object, found other bytes (JSONDecodeError)"),
        (bytes(2**19), "welcome: JSON: expected at most 262144 bytes, found 524224"),
    ],
    ids=["nothing", "noise", "far too much"],
)
def test_an_answer_that_is_no_welcome(simulated: Front, answer: bytes, sentence: str) -> None:
    simulated.port.hello = lambda message: answer
    assert simulated.refused_before_anything_was_sent() == (3, sentence)


def test_a_refusal_that_would_write_on_the_terminal(simulated: Front) -> None:
    """Refusals are unsigned: anybody on the way can make one, but not the line that the engineer believes."""
    found = "\x1b[2J\x1b[1;1Hx\r\n\x1b[32msilo-0 is admitted to 'digits'.\n"
    refusal = pb.Refusal(code=RefusalCode.BUSY, expected="a friend", found=found, remedy="\n")
    simulated.port.hello = lambda message: refusal
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith("busy: expected a friend, found U+001B[2JU+001B[1;1HxU+000DU+000AU+001B[32msilo-0 is admitt")
    assert line.isprintable()


# What a real TEE has to do with it


def test_simulated_evidence_where_the_agreement_wants_real(vendor: Front) -> None:
    code, line = vendor.refused_before_anything_was_sent()
    assert code == 3
    assert line == EVIDENCE + "tee: expected sev-snp, found simulated" + NOTHING


class Renamed:
    """A simulated platform that says that it is another."""

    tee = Tee.SEV_SNP

    def __init__(self, measurement: bytes) -> None:
        self._platform = SimulatedPlatform(measurement)

    def evidence(self, committed: bytes) -> Evidence:
        found = self._platform.evidence(committed)
        return Evidence(tee=Tee.SEV_SNP, report=found.report, endorsements=found.endorsements)

    def sealing_key(self) -> bytes:
        return bytes(32)


def test_simulated_evidence_under_a_real_name(vendor: Front) -> None:
    platform: Platform = Renamed(code_of(vendor))
    vendor.port.hello = lambda message: vendor.liar.with_platform(platform, message)
    code, line = vendor.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith(
        "evidence-not-authentic: expected the appliance's evidence to be what the agreement accepts, found "
    )


def test_a_genuine_report_of_somebody_elses_machine(vendor: Front) -> None:
    """AMD's own signature, an accepted measurement: and it commits to something else than these keys and this nonce."""
    vendor.port.hello = lambda message: vendor.liar.welcome(message, evidence=genuine().encode())
    code, line = vendor.refused_before_anything_was_sent()
    assert code == 3
    assert line.startswith(EVIDENCE + "report_data: expected ")


def test_a_genuine_report_where_the_agreement_simulates(simulated: Front) -> None:
    simulated.port.hello = lambda message: simulated.liar.welcome(message, evidence=genuine().encode())
    code, line = simulated.refused_before_anything_was_sent()
    assert code == 3
    assert line == EVIDENCE + "tee: expected simulated, found sev-snp" + NOTHING


def test_an_appliance_without_the_agreed_hardware_does_not_start(vendor: Front) -> None:
    [appliance] = (running for running in vendor.made.runs if running.name == "appliance")
    assert appliance.exit_code() == 3
    [refused] = [line for line in appliance.errors.splitlines() if "event=start-refused" in line]
    assert refused.startswith("enclave | event=start-refused ")
    assert "sev-snp" in refused
    assert appliance.events == []
    assert not [path for path in vendor.made.store.rglob("log/**/*") if path.is_file()]


@pytest.mark.parametrize("which", ["silo", "appliance"])
def test_an_agreement_that_puts_simulated_beside_real_is_none(tmp_path: Path, which: str) -> None:
    """Simulated evidence of one party beside a real TEE of the other can't even be agreed on."""
    tees = {
        "silo": {"tee": "simulated", "silo_tee": "sev-snp"},
        "appliance": {"tee": "sev-snp", "silo_tee": "simulated"},
    }
    file = tmp_path / "federation.toml"
    file.write_text(good_agreement(**tees[which]))  # type: ignore[arg-type]
    result = CliRunner().invoke(cli, ["agreement", "digest", str(file)])
    assert result.exit_code == 2
    assert 'tee: expected "simulated" like another in this file (never beside a real one), found "sev-snp"' in (
        result.stderr
    )


# The answer to the request


def test_an_admission_that_nobody_signed(simulated: Front) -> None:
    simulated.port.enrol = lambda sealed: simulated.liar.admit(sealed, signer=SigningKey(os.urandom(32)))
    code, line, _ = simulated.enrol()
    assert code == 3
    assert line.startswith("admission: the signature is not by ed25519:")


def test_an_admission_to_another_boot(simulated: Front) -> None:
    simulated.port.enrol = lambda sealed: simulated.liar.admit(sealed, boot_id=bytes(32))
    code, line, _ = simulated.enrol()
    assert code == 3
    assert line.startswith("wrong-boot: expected an admission of silo-0 to boot ")


def test_an_admission_that_is_not_in_the_log(simulated: Front) -> None:
    """The receipt is somebody else's."""
    log = simulated.liar.log
    other = {"entry": log.entry(0), "receipt": log.receipt(0).encode().decode()}
    simulated.port.enrol = lambda sealed: simulated.liar.admit(sealed, **other)
    code, line, _ = simulated.enrol()
    assert code == 4
    assert line == (
        "other-log: expected a silo.admitted entry for the request that silo-0 has just made, found a log.genesis "
        "entry for something else; the appliance answers with another's receipt: do not go on with it"
    )


def test_the_same_appliance_without_the_lies_is_believed(simulated: Front) -> None:
    code, _, running = simulated.enrol()
    assert code == 0
    assert running.output.startswith("silo-0 is admitted to 'digits'.")

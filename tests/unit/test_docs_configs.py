"""The example files parse as they stand, and fail safe: nothing in them could be taken for a real federation."""

import base64
import re
from pathlib import Path

from click.testing import CliRunner

from appliance.config import ApplianceConfig
from protocol.agreement import Agreement
from silo_client.config import SiloConfig
from strongroom import cli

CONFIGS = Path(__file__).parents[2] / "configs"
AGREEMENT = CONFIGS / "federation.toml"


def agreement() -> Agreement:
    return Agreement.parse(AGREEMENT.read_bytes(), AGREEMENT.name)


def test_the_agreement_parses_and_tolerates_an_absence() -> None:
    assert agreement().federation.name == "example"
    assert agreement().tolerated_absences == 1
    assert [silo.needs_evidence for silo in agreement().silos] == [True, True, True, False]


def test_the_agreement_protects_nothing_and_its_check_says_so() -> None:
    result = CliRunner().invoke(cli.cli, ["agreement", "check", str(AGREEMENT)])
    assert result.exit_code == 0, result.output
    assert "PROTECTS NOTHING" in result.output
    assert "Without a TEE, vouched for by their identity key alone: ridge." in result.output


def test_its_digests_and_keys_are_placeholders_that_nothing_fits() -> None:
    example = agreement()
    assert (example.model.layout, example.model.initial) == (bytes(32), bytes(32))
    references = [*example.appliance, *(values for silo in example.silos for values in silo.reference_values)]
    assert {values.measurements for values in references} == {(bytes(48),)}
    for silo in example.silos:
        assert silo.identity.raw == f"EXAMPLE KEY OF {silo.name.upper()}, REPLACE ME".encode()


def test_with_real_digests_in_their_places_it_still_parses() -> None:
    text = AGREEMENT.read_text()
    text = re.sub(r"sha256:0{64}", "sha256:" + "4f" * 32, text).replace("0" * 96, "b7" * 48)
    for number, silo in enumerate(agreement().silos, start=1):
        key = base64.b64encode(bytes([number]) * 32).decode()
        text = text.replace(str(silo.identity), f"ed25519:{key}")
    assert Agreement.parse(text.encode(), "federation.toml").model.layout == b"\x4f" * 32


def test_the_silos_example_fits_the_agreements() -> None:
    file = CONFIGS / "silo.toml"
    config = SiloConfig.parse(file.read_bytes(), file)
    assert config.name in [silo.name for silo in agreement().silos]
    assert config.agreement == AGREEMENT


def test_silo_and_appliance_meet_at_the_same_ports() -> None:
    file = CONFIGS / "appliance.toml"
    appliance = ApplianceConfig.parse(file.read_bytes(), file)
    silo = SiloConfig.parse((CONFIGS / "silo.toml").read_bytes(), CONFIGS / "silo.toml")
    assert (str(silo.enrolment), str(silo.federation)) == (appliance.enrolment, appliance.federation)
    assert appliance.agreement == AGREEMENT

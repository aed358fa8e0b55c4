"""Every refusal of a `[[appliance.tee]]` or `[[silo.tee]]` table, with its exact words."""

import runpy
from pathlib import Path

import pytest

from protocol.agreement import _APPLIANCE_TEES, Agreement, AgreementError

EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "agreement_examples.py"))
GOOD: str = EXAMPLES["good_agreement"]()
TCB = 'minimum_tcb = [{ product = "Genoa", bootloader = 9, tee = 0, snp = 23, microcode = 72 }]'
APPLIANCE_TEES = ", ".join(f'"{tee}"' for tee in _APPLIANCE_TEES)
MEASUREMENT = f'measurements = ["{"5a" * 48}"]'


def error_of(text: str) -> str:
    with pytest.raises(AgreementError) as caught:
        Agreement.parse(text.encode(), "federation.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "instead", "error"),
    [
        # The first table of reference values in the file is the appliance's.
        (
            'tee = "simulated"',
            'tee = "none"',
            f"[[appliance.tee]] #1 tee: expected one of {APPLIANCE_TEES}, found 'none'",
        ),
        (
            'tee = "simulated"',
            'tee = "sev-snp"',
            (
                '[[appliance.tee]] #1 tee: expected "simulated" like another in this file (never beside a real one), '
                'found "sev-snp"'
            ),
        ),
        (
            'products = ["Genoa"]',
            "products = []",
            "[[appliance.tee]] #1 products: expected a list of 1 to 4096 items, found []",
        ),
        (
            'products = ["Genoa"]',
            'products = ["Rome"]',
            '[[appliance.tee]] #1 products: expected each item to be one of "Milan", "Genoa", "Turin", found \'Rome\'',
        ),
        (
            'products = ["Genoa"]',
            'products = ["Genoa", "Genoa"]',
            "[[appliance.tee]] #1 products: expected no value twice, found a duplicate",
        ),
        (
            'products = ["Genoa"]',
            'products = ["Genoa", "Milan"]',
            "[[appliance.tee]] #1 minimum_tcb: expected one for each of Genoa, Milan, found Genoa",
        ),
        (
            MEASUREMENT,
            "measurements = []",
            "[[appliance.tee]] #1 measurements: expected a list of 1 to 4096 items, found []",
        ),
        (
            MEASUREMENT,
            "",
            (
                "[[appliance.tee]] #1 measurements: expected a list, each item 96 lower-case hexadecimal digits, "
                "found no such key"
            ),
        ),
        (
            MEASUREMENT,
            'measurements = ["5a"]',
            "[[appliance.tee]] #1 measurements: expected each item to be 96 lower-case hexadecimal digits, found '5a'",
        ),
        (
            'covers = "code"',
            "",
            '[[appliance.tee]] #1 covers: expected one of "code", "firmware-only", found no such key',
        ),
        (
            'covers = "code"',
            'covers = "firmware"',
            '[[appliance.tee]] #1 covers: expected one of "code", "firmware-only", found \'firmware\'',
        ),
        (
            'revocation = "minimum-tcb"',
            "",
            '[[appliance.tee]] #1 revocation: expected one of "crl", "minimum-tcb", found no such key',
        ),
        (
            'revocation = "minimum-tcb"',
            'revocation = "short-lived"',
            '[[appliance.tee]] #1 revocation: expected one of "crl", "minimum-tcb", found \'short-lived\'',
        ),
        (TCB, "minimum_tcb = []", "[[appliance.tee]] #1 minimum_tcb: expected a list of 1 to 3 items, found []"),
        (
            TCB,
            TCB.replace("snp = 23", "snp = 256"),
            "[[appliance.tee]] #1 minimum_tcb[0] snp: expected an integer from 0 to 255, found 256",
        ),
        (
            TCB,
            TCB.replace("tee = 0", "fmc = 1, tee = 0"),
            "[[appliance.tee]] #1 minimum_tcb[0] fmc: expected no such key, found one (misspelt?)",
        ),
        (
            TCB,
            TCB.replace("Genoa", "Turin"),
            "[[appliance.tee]] #1 minimum_tcb[0] fmc: expected an integer from 0 to 255, found no such key",
        ),
        (
            "policies = [0x30000]",
            "policies = []",
            "[[appliance.tee]] #1 policies: expected a list of 1 to 4096 items, found []",
        ),
        (
            "policies = [0x30000]",
            "policies = [0xb0000]",
            "[[appliance.tee]] #1 policies: expected bit 19 (DEBUG) to be 0, found 0xb0000",
        ),
        (
            "policies = [0x30000]",
            "policies = [-1]",
            "[[appliance.tee]] #1 policies: expected each item to be an integer from 0 to 2^53-1, found -1",
        ),
        (
            "provisional_firmware = false",
            "provisional_firmware = 0",
            "[[appliance.tee]] #1 provisional_firmware: expected true or false, found 0",
        ),
        ("vmpl = 0", "vmpl = 4", "[[appliance.tee]] #1 vmpl: expected an integer from 0 to 3, found 4"),
        ("vmpl = 0", "", "[[appliance.tee]] #1 vmpl: expected an integer from 0 to 3, found no such key"),
        (
            'signing_keys = ["vcek"]',
            'signing_keys = ["vlek"]',
            "[[appliance.tee]] #1 csp_ids: expected a list, each item a string, found no such key",
        ),
        (
            'signing_keys = ["vcek"]',
            'signing_keys = ["vcek"]\ncsp_ids = ["cloud"]',
            "[[appliance.tee]] #1 csp_ids: expected no such key without \"vlek\" among signing_keys, found ['cloud']",
        ),
        (
            'chip_ids = "any"',
            "chip_ids = []",
            "[[appliance.tee]] #1 chip_ids: expected a list of 1 to 4096 items, found []",
        ),
        (
            'chip_ids = "any"',
            'chip_ids = "all"',
            (
                '[[appliance.tee]] #1 chip_ids: expected "any" or a list of identifiers of 128 hexadecimal digits, '
                "found 'all'"
            ),
        ),
        (
            f'host_data = "{"00" * 32}"',
            'host_data = "00"',
            "[[appliance.tee]] #1 host_data: expected 64 lower-case hexadecimal digits, found '00'",
        ),
        (
            'id_block = "none"',
            "id_block = []",
            '[[appliance.tee]] #1 id_block: expected "none" or a table, found []',
        ),
        (
            'id_block = "none"',
            "id_block = {}",
            "[[appliance.tee]] #1 id_block id_key_digest: expected 96 lower-case hexadecimal digits, found no such key",
        ),
        (
            'id_block = "none"',
            (
                f'id_block = {{ id_key_digest = "{"00" * 48}", author_key_digest = "{"00" * 48}", '
                f'family_id = "{"00" * 16}", image_id = "{"00" * 16}", minimum_guest_svn = 0 }}'
            ),
            "[[appliance.tee]] #1 id_block.id_key_digest: expected a key's digest, found zero bytes",
        ),
    ],
)
def test_one_change_is_refused(line: str, instead: str, error: str) -> None:
    assert line in GOOD
    assert error_of(GOOD.replace(line, instead, 1)) == f"federation.toml: {error}"


def test_an_appliance_has_a_tee() -> None:
    error = error_of(GOOD.replace('tee = "simulated"', 'tee = "none"', 1))
    assert error.startswith('federation.toml: [[appliance.tee]] #1 tee: expected one of "sev-snp", ')
    assert error.endswith("\"simulated\", found 'none'")

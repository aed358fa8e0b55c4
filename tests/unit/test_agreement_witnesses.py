"""`[[log.witness]]` and `[log] witnesses`: what they mean, how they are written, and every refusal in its words."""

import base64
import re
from pathlib import Path

import pytest
from agreement_examples import good_agreement, identity
from click.testing import CliRunner
from memory_federation import signing_key

from audit.agreed import quorum_of
from audit.note import VerifierKey
from protocol.agreement import Agreement, AgreementError
from protocol.agreement_render import render_witness
from protocol.errors import RefusalCode, RefusedError
from strongroom import cli

W1 = str(VerifierKey.of_cosigner("witness.example/w1", signing_key("w1").public))
W2 = str(VerifierKey.of_cosigner("witness.example/w2", signing_key("w2").public))
GOOD = good_agreement(witnesses={"university": W1, "auditor": W2}, required_witnesses=1)
CONFIGS = Path(__file__).parents[2] / "configs"
KEY = "a key for cosignatures, <name>+<8 hex digits>+<base64>, as `strongroom witness key` prints it"
SILO_KEY = base64.b64decode(identity("silo-1").removeprefix("ed25519:"))
ORIGIN = "simulated.strongroom.example/digits"


def parse(text: str) -> Agreement:
    return Agreement.parse(text.encode(), "federation.toml")


def renamed(name: str, key: str = "w1") -> str:
    return str(VerifierKey.of_cosigner(name, signing_key(key).public))


def test_witnesses_arrive_and_count_in_the_quorum() -> None:
    agreement = parse(GOOD)
    assert [witness.name for witness in agreement.log.witnesses] == ["university", "auditor"]
    assert [witness.verifier_key for witness in agreement.log.witnesses] == [W1, W2]
    assert agreement.witness("auditor").key == signing_key("w2").public
    quorum = quorum_of(agreement)
    assert (quorum.required, quorum.required_witnesses) == (3, 1)
    assert [str(witness.key) for witness in quorum.witnesses] == [W1, W2]
    with pytest.raises(RefusedError) as caught:
        agreement.witness("silo-0")
    assert caught.value.refusal.code is RefusalCode.UNKNOWN_WITNESS


def test_without_tables_there_is_none_and_none_is_asked_for() -> None:
    log = parse(good_agreement()).log
    assert (log.witnesses, log.required_witnesses) == ((), 0)


def test_a_block_reads_back() -> None:
    head, _, rest = GOOD.partition("[[log.witness]]")
    blocks = "\n".join(render_witness(witness) for witness in parse(GOOD).log.witnesses)
    again = parse(head + blocks + rest[rest.index("[appliance]") :])
    assert again.log == parse(GOOD).log


@pytest.mark.parametrize(
    ("line", "instead", "error"),
    [
        (
            f'name = "university"\nkey = "{W1}"\n\n[[log.witness]]\nname = "auditor"\nkey = "{W2}"',
            "",
            "[[log.witness]] #1 name: expected a name [a-z0-9-]{1,63}, found no such key",
        ),
        ("witnesses = 1", "", "[log] witnesses: expected an integer from 0 to 2, found no such key"),
        ("witnesses = 1", "witnesses = 3", "[log] witnesses: expected an integer from 0 to 2, found 3"),
        ("witnesses = 1", "witnesses = true", "[log] witnesses: expected an integer from 0 to 2, found True"),
        (
            'name = "auditor"',
            'name = "university"',
            '[[log.witness]] #2 name: expected one that nobody else has, found that of witness "university"',
        ),
        (
            'name = "auditor"',
            'name = "silo-0"',
            '[[log.witness]] #2 name: expected one that nobody else has, found that of silo "silo-0"',
        ),
        ('name = "auditor"', "", "[[log.witness]] #2 name: expected a name [a-z0-9-]{1,63}, found no such key"),
        (
            'name = "auditor"',
            'name = "auditor"\nurl = "x"',
            "[[log.witness]] #2 url: expected no such key, found one (misspelt?)",
        ),
        (W2, identity("x"), f"[[log.witness]] #2 key: expected {KEY}, found {identity('x')!r}"),
        (W2, W2.replace("+e98dbcf5+", "+e98dbcf6+"), f"[[log.witness]] #2 key: expected {KEY}, found "),
        (W2, W2[:20], f"[[log.witness]] #2 key: expected {KEY}, found {W2[:20]!r}"),
        (
            W2,
            str(VerifierKey.of_log("witness.example/w2", signing_key("w2").public)),
            f"[[log.witness]] #2 key: expected {KEY}, found ",
        ),
        (
            W2,
            renamed("witness.example/w3"),
            '[[log.witness]] #2 key: expected one that nobody else has, found that of witness "university"',
        ),
        (
            W2,
            renamed("witness.example/w1", "w2"),
            "[[log.witness]] #2 key: expected another key name, found 'witness.example/w1' again",
        ),
        (
            W2,
            renamed(ORIGIN, "w2"),
            f"[[log.witness]] #2 key: expected a key name of the witness's own, found one of this log, '{ORIGIN}'",
        ),
        (
            W2,
            renamed(f"{ORIGIN}/silo-0", "w2"),
            "[[log.witness]] #2 key: expected a key name of the witness's own, found one of this log, 'simulated.",
        ),
    ],
)
def test_one_change_is_refused(line: str, instead: str, error: str) -> None:
    assert line in GOOD
    with pytest.raises(AgreementError) as caught:
        parse(GOOD.replace(line, instead, 1))
    assert str(caught.value).startswith(f"federation.toml: {error}")
    assert "\n" not in str(caught.value)


def test_a_silos_key_is_no_witnesss() -> None:
    from protocol.keys import VerifyingKey

    key = str(VerifierKey.of_cosigner("witness.example/w2", VerifyingKey(SILO_KEY)))
    with pytest.raises(AgreementError, match='expected one that nobody else has, found that of silo "silo-1"'):
        parse(GOOD.replace(W2, key))


def test_a_number_without_tables_is_refused() -> None:
    with pytest.raises(AgreementError) as caught:
        parse(good_agreement().replace("faulty = 1", "faulty = 1\nwitnesses = 0"))
    expected = "[log] witnesses: expected no such key without [[log.witness]] tables, found 0"
    assert str(caught.value) == f"federation.toml: {expected}"
    with pytest.raises(AgreementError, match=r"1 to 16 \[\[log.witness\]\] tables, found \[\]"):
        parse(good_agreement().replace("faulty = 1", "faulty = 1\nwitnesses = 0\nwitness = []"))


def test_a_note_has_room_for_everybody_who_must_sign() -> None:
    owners = tuple(f"owner-{number}" for number in range(100))
    witnesses = {
        f"w{number}": str(VerifierKey.of_cosigner(f"witness.example/{number}", signing_key(f"w{number}").public))
        for number in range(2)
    }
    parse(good_agreement(owners=owners, cosigners=97, witnesses=witnesses))
    with pytest.raises(AgreementError, match="expected at most 99 together with the witnesses, found 98 and 2"):
        parse(good_agreement(owners=owners, cosigners=98, witnesses=witnesses))


def test_check_says_who_they_are_and_how_many_must(tmp_path: Path) -> None:
    file = tmp_path / "federation.toml"

    def check(*options: str) -> str:
        result = CliRunner().invoke(cli.cli, ["agreement", "check", str(file), *options])
        assert result.exit_code == 0, result.output
        return result.output

    file.write_text(GOOD)
    names = "university (witness.example/w1), auditor (witness.example/w2)"
    assert f"witnesses  {names}; 1 of 2 must cosign each release as well" in check()
    assert '"required_witnesses": 1' in check("--json")
    file.write_text(GOOD.replace("witnesses = 1", "witnesses = 0"))
    assert f"{names}; asked to cosign each release, and not waited for" in check()
    file.write_text(good_agreement())
    assert "witnesses" not in check()


def test_the_examples_commented_tables_parse_once_they_are_no_comment() -> None:
    text = (CONFIGS / "federation.toml").read_text()
    block = re.search(r"(#     witnesses = 1.*?)\n\n(?=# What the appliance)", text, re.DOTALL)
    assert block is not None
    said = "\n".join(re.sub(r"^#     ?|^#$", "", line) for line in block[1].split("\n"))
    log = parse(text.replace(block[1], said)).log
    assert [witness.name for witness in log.witnesses] == ["university", "auditor"]
    assert log.required_witnesses == 1

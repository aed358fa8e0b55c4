"""`silo.toml` and the identity key's file: a closed schema, and errors of one line that say what to change."""

import os
import stat
from pathlib import Path

import pytest
from agreement_examples import good_agreement
from memory_federation import agreement_for, layout_of, signing_key

from protocol.errors import ProtocolError
from protocol.keys import SigningKey
from silo_client.config import Address, SiloConfig, SiloConfigError, SiloFiles
from silo_client.identity import IdentityError, create_identity, encode_identity, parse_identity, read_identity

GOOD = """name = "silo-0"
agreement = "federation.toml"
layout = "layout.json"
initial_model = "initial.safetensors"
identity = "silo-0.key"
state = "/var/lib/silo-0"

[appliance]
enrolment = "appliance.example:7443"
federation = "[::1]:7444"
"""


def parse(text: str) -> SiloConfig:
    return SiloConfig.parse(text.encode(), Path("/etc/strongroom/silo.toml"))


def test_relative_paths_are_relative_to_the_file() -> None:
    config = parse(GOOD)
    assert config.agreement == Path("/etc/strongroom/federation.toml")
    assert config.state == Path("/var/lib/silo-0")
    assert config.enrolment == Address(host="appliance.example", port=7443)
    assert str(config.federation) == "[::1]:7444"
    assert config.federation.connect_host == "::1"


def test_the_initial_model_and_endorsements_are_optional() -> None:
    text = GOOD.replace('initial_model = "initial.safetensors"\n', "")
    assert (parse(text).initial_model, parse(text).endorsements) == (None, None)
    assert parse('endorsements = "vcek"\n' + GOOD).endorsements == Path("/etc/strongroom/vcek")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "silo-0"', 'name = "Silo 0"', "silo.toml: name: expected a name [a-z0-9-]{1,63}, found 'Silo 0'"),
        ('name = "silo-0"\n', "", "silo.toml: name: expected a name [a-z0-9-]{1,63}, found no such key"),
        ('state = "/var/lib/silo-0"', "state = 3", "silo.toml: state: expected a printable string of 1 to 4096"),
        ("[appliance]", "[aplliance]", "silo.toml: appliance: expected a table, found no such key"),
        (
            '"appliance.example:7443"',
            '"appliance.example"',
            "silo.toml: [appliance] enrolment: expected \"host:port\", found 'appliance.example'",
        ),
        ('"[::1]:7444"', '"::1:7444"', "silo.toml: [appliance] federation: expected \"host:port\", found '::1:7444'"),
        (
            '"[::1]:7444"',
            '"host:65536"',
            "silo.toml: [appliance] federation: expected \"host:port\", found 'host:65536'",
        ),
        (
            '"[::1]:7444"',
            '"host:7444"\nverify = false',
            "silo.toml: [appliance] verify: expected no such key, found one (misspelt?)",
        ),
        ("[appliance]", "trust = true\n[appliance]", "silo.toml: trust: expected no such key, found one (misspelt?)"),
        ('layout = "layout.json"', 'layout = ""', "silo.toml: layout: expected a printable string of 1 to 4096"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(SiloConfigError) as error:
        parse(GOOD.replace(old, new))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_toml_that_is_none() -> None:
    with pytest.raises(SiloConfigError, match="silo.toml: expected TOML in UTF-8, found an error"):
        SiloConfig.parse(b"\xff", Path("silo.toml"))
    with pytest.raises(SiloConfigError, match="silo.toml: expected TOML in UTF-8, found an error"):
        SiloConfig.parse(b"name = ", Path("silo.toml"))


class TestFiles:
    """What `silo.toml` points to, read and held against each other."""

    @pytest.fixture
    def config(self, tmp_path: Path) -> SiloConfig:
        layout = layout_of(5)
        agreement = agreement_for(layout, owners=("a", "b", "c", "d"))
        (tmp_path / "federation.toml").write_bytes(agreement.source)
        (tmp_path / "layout.json").write_bytes(layout.encode())
        create_identity(tmp_path / "silo-0.key", signing_key("silo-0").seed())
        (tmp_path / "silo.toml").write_text(GOOD)
        return SiloConfig.load(tmp_path / "silo.toml")

    def test_good_files(self, config: SiloConfig) -> None:
        files = SiloFiles.load(config)
        assert files.identity.public == files.agreement.silo("silo-0").identity
        assert files.layout.digest == files.agreement.model.layout

    @pytest.mark.parametrize("name", ["federation.toml", "layout.json", "silo-0.key"])
    def test_a_file_that_is_not_there(self, config: SiloConfig, name: str) -> None:
        config.file.with_name(name).unlink()
        with pytest.raises(ProtocolError, match=rf"{name}: expected .*, found an error: No such file or directory"):
            SiloFiles.load(config)

    def test_a_config_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SiloConfigError, match=r"silo\.toml: expected a silo\.toml, found an error: No such file"):
            SiloConfig.load(tmp_path / "silo.toml")

    def test_another_layout(self, config: SiloConfig) -> None:
        config.layout.write_bytes(layout_of(6).encode())
        with pytest.raises(
            SiloConfigError, match=r"silo\.toml: layout: expected the agreement's layout sha256:[0-9a-f]+"
        ):
            SiloFiles.load(config)

    def test_a_layout_that_is_none(self, config: SiloConfig) -> None:
        config.layout.write_bytes(b"[]")
        with pytest.raises(SiloConfigError, match=r"silo\.toml: layout: expected a layout\.json, found"):
            SiloFiles.load(config)

    def test_another_silos_key(self, config: SiloConfig) -> None:
        config.identity.unlink()
        create_identity(config.identity, signing_key("silo-1").seed())
        with pytest.raises(SiloConfigError, match=r"silo\.toml: identity: expected the key of silo-0 in the agreement"):
            SiloFiles.load(config)

    def test_a_silo_that_the_agreement_does_not_name(self, config: SiloConfig) -> None:
        config.file.write_text(GOOD.replace('"silo-0"', '"silo-9"'))
        with pytest.raises(SiloConfigError, match=r"name: expected a silo of the agreement \(silo-0, .*found 'silo-9'"):
            SiloFiles.load(SiloConfig.load(config.file))

    def test_an_agreement_that_is_none(self, config: SiloConfig) -> None:
        config.agreement.write_text(good_agreement().replace("rounds", "rouns"))
        with pytest.raises(ProtocolError, match=r"^federation\.toml: \[federation\] "):
            SiloFiles.load(config)


class TestIdentity:
    def test_it_is_readable_by_its_owner_only_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            key = create_identity(tmp_path / "silo.key", bytes(range(32)))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "silo.key").stat().st_mode) == 0o600
        assert read_identity(tmp_path / "silo.key").public == key.public

    def test_it_is_never_overwritten(self, tmp_path: Path) -> None:
        create_identity(tmp_path / "silo.key", bytes(32))
        with pytest.raises(IdentityError, match="an identity key is never overwritten"):
            create_identity(tmp_path / "silo.key", bytes(range(32)))
        assert read_identity(tmp_path / "silo.key").seed() == bytes(32)

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "silo.key").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(IdentityError):
            create_identity(tmp_path / "silo.key", bytes(32))
        assert not (tmp_path / "elsewhere").exists()

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(IdentityError, match="the identity key can't be written: No such file or directory"):
            create_identity(tmp_path / "no" / "silo.key", bytes(32))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_a_key_that_others_may_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "silo.key"
        create_identity(path, bytes(32))
        path.chmod(mode)
        with pytest.raises(IdentityError, match=f"found mode {mode:04o}; `chmod 600 "):
            read_identity(path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: b"",
            lambda data: data[:-1],
            lambda data: data + b"\n",
            lambda data: data.replace(b"\n", b"\r\n"),
            lambda data: data.replace(b"/1", b"/2"),
            lambda data: data.replace(b"=", b""),
            lambda data: data.replace(b"A", b"\xff"),
        ],
    )
    def test_other_bytes_are_no_key(self, change: object) -> None:
        good = encode_identity(SigningKey(bytes(32)))
        assert parse_identity(good) is not None
        assert parse_identity(change(good)) is None  # type: ignore[operator]

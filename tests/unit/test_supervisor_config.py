"""appliance.toml: a closed schema, errors of one line that name the key."""

from pathlib import Path

import pytest

from appliance.config import DEFAULT_USERS, ApplianceConfig, ConfigurationError, Users, WitnessAddress

FILE = Path("/etc/strongroom/appliance.toml")
GOOD = """
agreement = "federation.toml"
layout = "../layout.json"
store = "/var/lib/strongroom"
endorsements = "endorsements"
threads = 3

[listen]
enrolment = "0.0.0.0:7100"
federation = "[::1]:0"

[users]
enclave = 11
gateway = 12
group = 13
"""


def parse(text: str) -> ApplianceConfig:
    return ApplianceConfig.parse(text.encode(), FILE)


def test_paths_are_relative_to_the_file() -> None:
    config = parse(GOOD)
    assert config.agreement == Path("/etc/strongroom/federation.toml")
    assert config.layout == Path("/etc/strongroom/../layout.json")
    assert config.store == Path("/var/lib/strongroom")
    assert config.endorsements == Path("/etc/strongroom/endorsements")
    assert (config.enrolment, config.federation) == ("0.0.0.0:7100", "[::1]:0")
    assert (config.threads, config.users) == (3, Users(enclave=11, gateway=12, group=13))


def test_threads_users_and_endorsements_may_be_left_out() -> None:
    text = GOOD[: GOOD.index("[users]")].replace("threads = 3", "").replace('endorsements = "endorsements"', "")
    config = parse(text)
    assert (config.threads, config.users, config.endorsements) == (2, DEFAULT_USERS, None)


WITNESSES = """
[[witness]]
name = "university"
url = "https://witness.example.edu/strongroom"

[[witness]]
name = "auditor"
url = "http://[::1]:7300"
"""


def test_witnesses_have_an_address_each() -> None:
    assert parse(GOOD).witnesses == ()
    assert parse(GOOD + WITNESSES).witnesses == (
        WitnessAddress(name="university", url="https://witness.example.edu/strongroom"),
        WitnessAddress(name="auditor", url="http://[::1]:7300"),
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("http://", "ftp://", 'witness[1] url: expected "http://host:port/prefix" or https, without a query'),
        ("http://[::1]:7300", "http://user@h/", "witness[1] url: expected"),
        ("http://[::1]:7300", "http://h/?x=1", "witness[1] url: expected"),
        ("http://[::1]:7300", "http://h/../x y", "witness[1] url: expected"),
        ("http://[::1]:7300", "http://h:99999", "witness[1] url: expected"),
        ('"auditor"', '"university"', "witness[1] name: expected each witness once, found 'university'"),
        ('"auditor"', '"Auditor"', "witness[1] name: expected a name"),
        ('name = "auditor"', 'name = "auditor"\nkey = "x"', "witness[1] key: expected no such key"),
    ],
)
def test_addresses_that_are_none_are_refused(old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(GOOD + WITNESSES.replace(old, new, 1))
    assert says in str(caught.value)


def test_the_example_parses() -> None:
    file = Path(__file__).parents[2] / "configs" / "appliance.toml"
    config = ApplianceConfig.parse(file.read_bytes(), file)
    assert config.store == file.parent / "store"
    assert config.users == DEFAULT_USERS


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('agreement = "federation.toml"', "", "agreement: expected a string, found no such key"),
        ('layout = "../layout.json"', "layout = 1", "layout: expected a printable string"),
        ('store = "/var/lib/strongroom"', 'store = ""', "store: expected a printable string"),
        ('"endorsements"', "true", "endorsements: expected a printable string"),
        ("threads = 3", "threads = 0", "threads: expected an integer from 1 to 256, found 0"),
        ("threads = 3", "threads = true", "threads: expected an integer"),
        ("threads = 3", "thread = 3", "thread: expected no such key"),
        ("threads = 3", "skip_attestation = true", "skip_attestation: expected no such key"),
        ("[listen]", "[listening]", "listen: expected a table, found no such key"),
        ('federation = "[::1]:0"', "", "[listen] federation: expected a string, found no such key"),
        ('"[::1]:0"', '"[::1]"', '[listen] federation: expected "host:port"'),
        ('"[::1]:0"', '"a:65536"', '[listen] federation: expected "host:port"'),
        ('"[::1]:0"', '"a:080"', '[listen] federation: expected "host:port"'),
        ('"[::1]:0"', '"unix:/tmp/x"', '[listen] federation: expected "host:port"'),
        ('"[::1]:0"', '"a:1"\ntls = "off"', "[listen] tls: expected no such key"),
        ("enclave = 11", "enclave = 0", "[users] enclave: expected an integer from 1"),
        ("enclave = 11", 'enclave = "root"', "[users] enclave: expected an integer from 1"),
        ("gateway = 12", "gateway = 11", "[users] gateway: expected another user than the enclave's, found 11"),
        ("group = 13", "", "[users] group: expected an integer"),
        ("group = 13", "group = 13\nwheel = 0", "[users] wheel: expected no such key"),
        ("threads = 3", "threads =", "expected TOML, found an error"),
        ("threads = 3", "threads = 3\r", "found a carriage return on line 6"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigurationError) as caught:
        parse(GOOD.replace(old, new))
    assert str(caught.value).startswith("appliance.toml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x00", b"", b"[" * 10_000, b"a." * 5000 + b"a = 1"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        ApplianceConfig.parse(data, FILE)

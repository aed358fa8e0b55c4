"""What kernels, modules and services answer: whatever it is, evidence comes of it or one error, and never a third."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_devices import FakeNsm, FakeSevGuest
from kernel_tsm import FakeReports, TsmKernel
from ovmf_image import ovmf

from attestation.collect.errors import CollectError
from attestation.collect.http import Response
from attestation.collect.measurement import NotMeasurable
from attestation.collect.nsm import Nsm
from attestation.collect.snp_launch import Hypervisor, LaunchImage
from attestation.collect.snp_platform import _from_host
from attestation.collect.token_endpoints import azure_token
from attestation.collect.tsm import collect, provider_of

REPORT_DATA = bytes(range(64))
BYTES = st.binary(max_size=300)
SCALARS = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def outcome(ask: Callable[[], bytes]) -> bytes | str:
    """What came of it, or the one line that says why nothing did."""
    try:
        return ask()
    except (CollectError, NotMeasurable) as error:
        return str(error)


def one_line(found: bytes | str) -> bool:
    return isinstance(found, str) and "\n" not in found


@given(answer=BYTES)
def test_the_nitro_modules_answers(answer: bytes) -> None:
    found = outcome(lambda: Nsm(FakeNsm(answer=answer)).attest(user_data=REPORT_DATA))
    assert one_line(found) or found in answer


@given(provider=st.text(max_size=80), generation=st.integers(0, 2**64 - 1), floor=st.integers(0, 2**32))
def test_what_stands_in_configfs(provider: str, generation: int, floor: int) -> None:
    kernel = TsmKernel(provider=provider, first_generation=generation, floor=floor, device=FakeSevGuest(table=b""))
    for ask in (
        lambda: provider_of(FakeReports(kernel)).encode(),
        lambda: collect(FakeReports(kernel), REPORT_DATA).report,
    ):
        found = outcome(ask)
        assert one_line(found) or isinstance(found, bytes)


@given(table=BYTES | st.binary(max_size=60).map(lambda data: data.ljust(4096, b"\0")))
def test_a_hosts_table(table: bytes) -> None:
    assert all(item in table for item in _from_host(table))


class Service:
    name = "service"

    def __init__(self, body: bytes) -> None:
        self.body = body

    def obstacle(self) -> str | None:
        return None

    def post(self, path: str, body: bytes) -> Response:
        return Response(status=200, body=self.body)


@given(body=BYTES | (JSON | st.fixed_dictionaries({"token": SCALARS})).map(lambda value: json.dumps(value).encode()))
def test_the_sidecars_answers(body: bytes) -> None:
    found = outcome(lambda: azure_token(Service(body), maa_host="a.b.c", runtime_data=b"{}"))
    assert one_line(found) or found in body


@settings(max_examples=60)
@given(at=st.integers(2048, 4095), value=st.binary(min_size=1, max_size=16))
def test_firmware_of_which_some_bytes_are_others(at: int, value: bytes) -> None:
    data = ovmf()
    data = (data[:at] + value + data[at + len(value) :])[:4096]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "OVMF.fd"
        file.write_bytes(data)
        image = LaunchImage(
            firmware=file,
            kernel=None,
            initrd=None,
            command_line="",
            vcpus=1,
            vcpu_type="EPYC",
            guest_features=1,
            hypervisor=Hypervisor.QEMU,
        )
        found = outcome(image.measure)
    assert one_line(found) or len(found) == 48

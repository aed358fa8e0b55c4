"""configfs-tsm over a kernel that behaves as documented, in memory and as a directory: one request, one report."""

import errno
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel_devices import FakeSevGuest
from kernel_firmware import Firmware
from kernel_tsm import FakeReports, HookedOs, TsmKernel, TsmRequest

from attestation.collect import configfs
from attestation.collect.configfs import ConfigfsInstance, ConfigfsReports
from attestation.collect.errors import CollectionFailed, NotOffered
from attestation.collect.tsm import ReportInterface, collect, provider_of
from attestation.simulated.chip import simulated_chip
from attestation.snp.cert_table import CertTable
from attestation.snp.report import SignedReport

REPORT_DATA = bytes(range(64))


@dataclass
class Scene:
    """A kernel, the interface to it, and the requests that lie about."""

    kernel: TsmKernel
    interface: ReportInterface
    folder: Path | None

    def left(self) -> set[str]:
        return set(self.kernel.items) | (set() if self.folder is None else set(os.listdir(self.folder)))

    def collect(self) -> SignedReport:
        return SignedReport.parse(collect(self.interface, REPORT_DATA).report)


@pytest.fixture(params=["in memory", "as a directory"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    kernel = TsmKernel()
    if request.param == "in memory":
        yield Scene(kernel, FakeReports(kernel), None)
        return
    monkeypatch.setattr(configfs, "os", HookedOs(kernel))
    counter = itertools.count()
    yield Scene(kernel, ConfigfsReports(tmp_path, lambda size: next(counter).to_bytes(size, "big")), tmp_path)


def test_a_report_commits_to_the_data_and_its_request_is_removed(scene: Scene) -> None:
    found = collect(scene.interface, REPORT_DATA)
    assert SignedReport.parse(found.report).report.report_data == REPORT_DATA
    assert CertTable.parse(found.auxiliary).endorsements() == (simulated_chip().endorsement,)
    assert (found.provider, scene.kernel.made, scene.left()) == ("sev_guest", 1, set())


def test_the_level_asked_for_is_the_lowest_that_the_kernel_allows(scene: Scene) -> None:
    """Where nothing is written a provider asks for 0, which firmware refuses to a guest at 2."""
    scene.kernel.floor = 2
    scene.kernel.device = FakeSevGuest(Firmware(vmpl=2))
    assert scene.collect().report.vmpl == 2


def test_tdx_has_neither_level_nor_auxiliary_blob(scene: Scene) -> None:
    scene.kernel.provider, scene.kernel.quote = "tdx_guest", b"quote over "
    found = collect(scene.interface, REPORT_DATA)
    assert (found.provider, found.report, found.auxiliary) == ("tdx_guest", b"quote over " + REPORT_DATA, b"")


def test_no_certificates_is_no_failure(scene: Scene) -> None:
    scene.kernel.device.table = b""
    assert collect(scene.interface, REPORT_DATA).auxiliary == b""


@pytest.mark.parametrize("attribute", ["outblob", "auxblob"])
def test_another_writer_is_noticed_whenever_it_writes(scene: Scene, attribute: str) -> None:
    """Between our write and our read: the report is another's. Between two reads: the certificates are."""

    def interfere(read: str, request: TsmRequest) -> None:
        if read == attribute:
            request.store("inblob", bytes(64))

    scene.kernel.interfere = interfere
    with pytest.raises(CollectionFailed, match="generation: expected 2 after 2 writes of ours, found 3"):
        scene.collect()
    assert scene.left() == set()


def test_a_writer_that_restores_our_data_is_noticed_too(scene: Scene) -> None:
    def interfere(read: str, request: TsmRequest) -> None:
        if read == "outblob":
            request.store("inblob", bytes(64))
            request.show("auxblob")
            request.store("inblob", REPORT_DATA)

    scene.kernel.interfere = interfere
    with pytest.raises(CollectionFailed, match="another process wrote"):
        scene.collect()


def test_a_write_that_the_kernel_dropped_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """EBUSY on a binary attribute comes up when it is closed, where nobody hears it: an older report would be read."""
    original = TsmRequest.store

    def store(self: TsmRequest, attribute: str, data: bytes) -> None:
        if attribute == "inblob":
            self.inblob = bytes(64)
            raise OSError(errno.EBUSY, "")
        original(self, attribute, data)

    monkeypatch.setattr(TsmRequest, "store", store)
    with pytest.raises(CollectionFailed, match="found 1: another process wrote to this request, or the kernel dropped"):
        scene.collect()


def test_the_counter_may_wrap(scene: Scene) -> None:
    scene.kernel.first_generation = 2**64 - 1
    assert scene.collect().report.report_data == REPORT_DATA


def test_a_text_attribute_that_is_busy_is_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TsmRequest, "read_generation", 1, raising=False)
    original = TsmKernel.make

    def make(kernel: TsmKernel, name: str) -> TsmRequest:
        request = original(kernel, name)
        request.read_generation = 1
        return request

    monkeypatch.setattr(TsmKernel, "make", make)
    with pytest.raises(CollectionFailed, match="EBUSY"):
        scene.collect()


def test_without_a_provider_no_request_can_be_made(scene: Scene) -> None:
    scene.kernel.provider = None
    with pytest.raises(NotOffered, match="ENXIO"):
        provider_of(scene.interface)
    with pytest.raises(CollectionFailed, match="no TEE's driver has registered"):
        scene.collect()


def test_a_provider_that_leaves_in_between_is_said(scene: Scene) -> None:
    def interfere(read: str, request: TsmRequest) -> None:
        raise OSError(errno.ENXIO, "")

    scene.kernel.interfere = interfere
    with pytest.raises(CollectionFailed, match="ENXIO"):
        scene.collect()
    assert scene.left() == set()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EINVAL, "EINVAL: the driver refused the request"),
        (errno.EFBIG, "EFBIG: the report is larger than this kernel hands out"),
        (errno.ENOTTY, r"threw away this guest's key to the firmware \(VMPCK\)"),
        (errno.ETIMEDOUT, "busy for 60 s"),
        (errno.EIO, "no other until the guest restarts"),
        (errno.ENOMEM, "ENOMEM"),
    ],
)
def test_what_the_kernel_answers_is_said_in_words_and_not_retried(scene: Scene, number: int, words: str) -> None:
    scene.kernel.number = number
    with pytest.raises(CollectionFailed, match=words):
        scene.collect()
    assert (scene.kernel.made, scene.left()) == (1, set())


def test_a_report_beyond_the_kernels_maximum_is_efbig(scene: Scene) -> None:
    scene.kernel.provider, scene.kernel.quote = "tdx_guest", bytes(40_000)
    with pytest.raises(CollectionFailed, match="EFBIG"):
        collect(scene.interface, REPORT_DATA)


def test_the_provider_is_found_without_a_report(scene: Scene) -> None:
    assert provider_of(scene.interface) == "sev_guest"
    assert (scene.kernel.made, scene.left()) == (0, set())


def test_a_provider_of_a_name_that_is_none_is_refused(scene: Scene) -> None:
    scene.kernel.provider = "sev guest\x1b[31m"
    with pytest.raises(CollectionFailed, match=r"provider: expected a name, found 'sev guest\\x1b"):
        provider_of(scene.interface)


@pytest.mark.parametrize("wrong", [b"", bytes(63), bytes(65)])
def test_report_data_is_never_padded_or_cut(scene: Scene, wrong: bytes) -> None:
    with pytest.raises(ValueError, match="report_data"):
        collect(scene.interface, wrong)


def test_a_machine_without_the_interface_says_so(tmp_path: Path) -> None:
    reports = ConfigfsReports(tmp_path / "report", os.urandom)
    with pytest.raises(NotOffered, match="report: no such folder: the kernel is older than 6.7"):
        provider_of(reports)


def test_a_folder_that_is_not_ours_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configfs.os, "access", lambda path, mode: False)
    assert "may make no request there" in str(ConfigfsReports(tmp_path, os.urandom).obstacle())


def test_requests_have_names_that_differ(tmp_path: Path) -> None:
    reports = ConfigfsReports(tmp_path, os.urandom)
    with reports.request() as one, reports.request() as two:
        assert one.path != two.path
    assert os.listdir(tmp_path) == []


def test_a_read_stops_one_byte_past_its_limit(tmp_path: Path) -> None:
    (tmp_path / "outblob").write_bytes(bytes(200_000))
    assert len(ConfigfsInstance(tmp_path).read("outblob", 70_000)) == 70_001
    assert len(ConfigfsInstance(tmp_path).read("outblob", 300_000)) == 200_000

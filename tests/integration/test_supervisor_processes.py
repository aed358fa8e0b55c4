"""The real thing: `strongroom appliance serve` with its two processes, and a silo that enrols over the wire."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memory_federation import agreement_for, layout_of, signing_key

from appliance.child import isolated_interpreter
from appliance.enclave.process import CannotStartError, _platform
from attestation.collect.measurement import installed_code, measure
from attestation.collect.platform import SimulatedPlatform
from audit.store import MemoryStore
from protocol.agreement import Agreement
from protocol.errors import ProtocolError, RefusalCode, RefusedError
from protocol.session import WantInitial, parse_to_silo
from silo_client.channel import ChannelLostError
from silo_client.config import Address
from silo_client.grpc_channel import GrpcChannel
from silo_client.machine import SiloMachine
from silo_client.state import SiloState

OWNERS = ("a", "b", "c", "d")
APPLIANCE = (sys.executable, "-m", "strongroom.cli", "appliance")


class Appliance:
    """A supervisor as a user starts it, in a folder with its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.measurement = measure(installed_code())
        layout = layout_of(5)
        self.agreement = agreement_for(layout, owners=OWNERS, replace={"5a" * 48: self.measurement.hex()})
        (folder / "federation.toml").write_bytes(self.agreement.source)
        (folder / "layout.json").write_bytes(layout.encode())
        (folder / "appliance.toml").write_text(
            'agreement = "federation.toml"\nlayout = "layout.json"\nstore = "store"\n'
            '[listen]\nenrolment = "127.0.0.1:0"\nfederation = "127.0.0.1:0"\n'
        )
        self.config = folder / "appliance.toml"
        self.log = folder / "stderr"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*APPLIANCE, "serve", "--json", "--config", str(self.config)],
                env={**os.environ, "SSLKEYLOGFILE": str(folder / "keys"), "GRPC_TRACE": "all"},
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.ready: dict[str, object] = {}

    def wait_ready(self) -> dict[str, object]:
        """The next readiness line."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.log.read_text())
        self.ready = json.loads(line)
        return self.ready

    def pid(self, who: str) -> int:
        return self.ready[f"{who}_pid"]

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(20)

    def silo(self, name: str) -> "WireSilo":
        return WireSilo(self, name)


class WireSilo:
    """The real client's machine over the real channel."""

    def __init__(self, appliance: Appliance, name: str) -> None:
        self.appliance = appliance
        self.name = name
        self.machine = SiloMachine(
            agreement=Agreement.parse(appliance.agreement.source, "federation.toml"),
            silo=name,
            identity=signing_key(name),
            platform=SimulatedPlatform(appliance.measurement),
            state=SiloState.open(MemoryStore(), agreement=appliance.agreement.digest, silo=name),
            clock=lambda: int(time.time()),
            random=os.urandom,
        )
        host, enrolment, federation = (
            "127.0.0.1",
            *(int(str(appliance.ready[port]).rpartition(":")[2]) for port in ("enrolment", "federation")),
        )
        self.channel = GrpcChannel(
            enrolment=Address(host=host, port=enrolment),
            federation=Address(host=host, port=federation),
            scratch=appliance.folder / name,
        )

    def enrol(self) -> None:
        welcome = self.channel.hello(self.machine.hello())
        self.machine.admitted(self.channel.enrol(self.machine.welcome(welcome)))

    def join(self) -> None:
        self.channel.connect(self.machine.enrolled.credential)
        self.channel.send(self.machine.join())

    def receive(self) -> bytes:
        message = self.channel.receive(15)
        if message is None:
            raise TimeoutError
        return message

    def outcome(self) -> ProtocolError:
        """How the session ends."""
        with pytest.raises(ProtocolError) as caught:
            self.receive()
        return caught.value


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    appliance = Appliance(tmp_path_factory.mktemp("appliance"))
    try:
        appliance.wait_ready()
        yield appliance
    finally:
        appliance.process.kill()
        appliance.process.wait()


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_the_readiness_line_says_where_and_what(appliance: Appliance) -> None:
    ready = appliance.ready
    assert ready["event"] == "ready"
    assert ready["simulated"] is True
    assert ready["agreement"] == f"sha256:{appliance.agreement.digest.hex()}"
    assert ready["origin"] == "simulated.strongroom.example/digits"
    assert "PROTECTS NOTHING" in appliance.log.read_text()


@pytest.mark.parametrize("who", ["enclave", "gateway"])
def test_children_have_no_environment_no_core_dumps_and_gain_no_privileges(appliance: Appliance, who: str) -> None:
    pid = appliance.pid(who)
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    isolated = [flag.encode() for flag in isolated_interpreter()[1:]]
    assert isolated[0] == b"-I"
    assert arguments[1 : len(isolated) + 3] == [*isolated, b"-m", f"appliance.{who}.process".encode()]
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert next(line for line in limits if "core file" in line).split()[4:6] == ["0", "0"]
    assert status_of(pid)["NoNewPrivs"] == "1"
    assert status_of(pid)["PPid"] == str(appliance.pid("supervisor"))


def test_the_enclave_says_what_it_did_to_itself(appliance: Appliance) -> None:
    log = appliance.log.read_text()
    assert "enclave | event=hardening not-dumpable: done" in log
    assert "enclave | event=hardening no-swap: " in log
    assert not (appliance.folder / "keys").exists()


def test_the_gateway_never_loads_torch(appliance: Appliance) -> None:
    assert "torch" in Path(f"/proc/{appliance.pid('enclave')}/maps").read_text()
    assert "torch" not in Path(f"/proc/{appliance.pid('gateway')}/maps").read_text()


def test_a_second_appliance_on_the_store_is_refused(appliance: Appliance) -> None:
    done = subprocess.run([*APPLIANCE, "serve", "--config", appliance.config], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("another appliance is running on this store")


def test_status_asks_the_enclave(appliance: Appliance) -> None:
    asked = subprocess.run(
        [*APPLIANCE, "status", "--json", "--config", appliance.config], capture_output=True, text=True, check=True
    )
    found = json.loads(asked.stdout)
    assert found["boot_id"] == appliance.ready["boot_id"]
    assert found["simulated"] is True
    assert found["log_size"] >= 2


def test_a_killed_gateway_comes_back_where_it_was_and_silos_go_on_with_their_credential(appliance: Appliance) -> None:
    silo = appliance.silo("silo-0")
    silo.enrol()
    silo.join()
    former = appliance.ready
    os.kill(appliance.pid("gateway"), signal.SIGKILL)
    assert isinstance(silo.outcome(), ChannelLostError)
    ready = appliance.wait_ready()
    assert [ready[key] for key in ("enrolment", "federation", "boot_id", "enclave_pid")] == [
        former[key] for key in ("enrolment", "federation", "boot_id", "enclave_pid")
    ]
    assert ready["gateway_restarts"] == former["gateway_restarts"] + 1
    # Three owners make a quorum: with them the enclave asks for cosignatures, on streams that are all new.
    silos = [silo, *(appliance.silo(f"silo-{number}") for number in (1, 2, 3))]
    for other in silos[1:]:
        other.enrol()
    for each in silos:
        each.join()
    # No round is opened before the initial model is there; somebody is asked for it.
    asked: list[bytes] = []
    eventually(
        lambda: asked.extend(message for each in silos if (message := each.channel.receive(0.05))) or bool(asked)
    )
    assert [type(parse_to_silo(message)) for message in asked] == [WantInitial]


def test_a_killed_enclave_comes_back_as_another_boot_that_knows_nobody(appliance: Appliance) -> None:
    silo = appliance.silo("silo-0")
    silo.enrol()
    silo.join()
    former = appliance.ready
    os.kill(appliance.pid("enclave"), signal.SIGKILL)
    ended = silo.outcome()
    assert isinstance(ended, RefusedError)
    assert ended.refusal.code is RefusalCode.NOT_ADMITTED
    ready = appliance.wait_ready()
    assert ready["gateway_pid"] == former["gateway_pid"]
    assert ready["boot_id"] != former["boot_id"]
    # The old credential is by an authority that is no more.
    silo.join()
    assert isinstance(silo.outcome(), ChannelLostError)
    again = appliance.silo("silo-0")
    again.enrol()
    again.join()
    assert again.machine.enrolled.boot_id.hex() == ready["boot_id"]


def test_told_to_stop_it_leaves_nothing_running(appliance: Appliance) -> None:
    pids = [appliance.pid(who) for who in ("enclave", "gateway")]
    assert appliance.end() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    done = subprocess.run([*APPLIANCE, "status", "--config", appliance.config], capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected a running appliance, found none" in done.stderr


def test_children_die_with_the_supervisor_and_another_agreement_on_its_store_is_refused(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path)
    appliance.wait_ready()
    pids = [appliance.pid(who) for who in ("enclave", "gateway")]
    appliance.process.kill()
    appliance.process.wait()
    eventually(lambda: not any(running(pid) for pid in pids))

    other = appliance.agreement.source.replace(b"rounds = 40", b"rounds = 41")
    (tmp_path / "federation.toml").write_bytes(other)
    done = subprocess.run(
        [*APPLIANCE, "serve", "--config", appliance.config], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    refused = [line for line in done.stderr.splitlines() if "start-refused" in line]
    assert len(refused) == 1
    assert appliance.agreement.digest.hex() in refused[0]
    assert Agreement.parse(other, "federation.toml").digest.hex() in refused[0]
    assert "Traceback" not in done.stderr
    assert "restart" not in done.stderr


def test_an_enclave_without_the_agreed_tee_or_its_endorsements_says_what_it_looked_for(tmp_path: Path) -> None:
    layout = layout_of(5)
    agreement = agreement_for(layout, owners=OWNERS, tee="sev-snp")
    with pytest.raises(CannotStartError, match="found none on this machine .*/dev/sev-guest: no such device"):
        _platform(agreement.appliance, None)

    (tmp_path / "federation.toml").write_bytes(agreement.source)
    (tmp_path / "layout.json").write_bytes(layout.encode())
    (tmp_path / "appliance.toml").write_text(
        'agreement = "federation.toml"\nlayout = "layout.json"\nstore = "store"\nendorsements = "elsewhere"\n'
        '[listen]\nenrolment = "127.0.0.1:0"\nfederation = "127.0.0.1:0"\n'
    )
    serve = [*APPLIANCE, "serve", "--config", str(tmp_path / "appliance.toml")]
    done = subprocess.run(serve, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3, done.stderr
    [refused] = [line for line in done.stderr.splitlines() if "start-refused" in line]
    assert f"{tmp_path}/elsewhere: expected a folder of endorsements, found No such file or directory" in refused
    assert "PROTECTS NOTHING" not in done.stderr


def running(pid: int) -> bool:
    """Whether it still runs; an orphan that nobody reaps is a zombie."""
    try:
        return status_of(pid)["State"][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)

"""The gateway's process: the composition root of everything untrusted. Started by the supervisor, with no environment.

It holds one key, that of its own TLS certificate, and sees sealed bytes only. On standard output it reports, one JSON
object a line; on standard error it writes events as lines of codes. Ends with 0 when asked to (SIGTERM), 2 when a port,
a file or an argument is unusable, 1 when something failed that should not.
"""

import argparse
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Before gRPC is loaded: its own lines about strangers' handshakes are not for the operator's log.
os.environ["GRPC_VERBOSITY"] = "NONE"

import grpc

from appliance.gateway.bodies import Bodies
from appliance.gateway.enrolment_port import EnrolmentPort
from appliance.gateway.federation_port import FederationPort
from appliance.gateway.link import EnclaveLink, Listener
from appliance.gateway.servers import Certificate, FederationServer, PortTakenError, open_enrolment
from appliance.gateway.spool import Spool
from appliance.gateway.witness_courier import Route, WitnessCouriers
from appliance.gateway.witness_http import WitnessUrl, post
from audit.agreed import witness_key_of
from protocol import canonical
from protocol.agreement import Agreement
from protocol.credentials import new_credential_key
from protocol.errors import ProtocolError
from protocol.layout import Layout
from protocol.sealing.geometry import WRAP_BYTES, size_of
from protocol.sealing.header import HEADER_LIMIT_BYTES
from protocol.wire import strongroom_pb2 as pb

EXIT_FAILED = 1
EXIT_UNUSABLE = 2
_GRACE_SECONDS = 1.0
_END = {signal.SIGTERM, signal.SIGINT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The command line, which the supervisor writes."""

    agreement: Path
    layout: Path
    socket: Path
    spool: Path
    models: Path
    enrolment: str
    federation: str
    witness: list[str]

    @classmethod
    def parse(cls, arguments: list[str]) -> "Settings":
        parser = argparse.ArgumentParser(prog="gateway", allow_abbrev=False)
        for name in ("agreement", "layout", "socket", "spool", "models"):
            parser.add_argument(f"--{name}", type=Path, required=True)
        for name in ("enrolment", "federation"):
            parser.add_argument(f"--{name}", required=True)
        parser.add_argument("--witness", action="append", default=[], metavar="NAME=URL")
        return cls(**vars(parser.parse_args(arguments)))


class Gateway:
    """Everything of the gateway that lives as long as its process."""

    def __init__(self, settings: Settings, agreement: Agreement, layout: Layout, routes: dict[str, Route]) -> None:
        self._settings = settings
        self._agreement = agreement
        self._link = EnclaveLink(settings.socket)
        self._spool = Spool(
            settings.spool,
            smallest=size_of(1, WRAP_BYTES, layout.update_chunks),
            largest=size_of(HEADER_LIMIT_BYTES, WRAP_BYTES, layout.chunks),
        )
        self._certificate = Certificate.create(new_credential_key(), int(time.time()))
        self._federation_port = FederationPort(
            link=self._link, spool=self._spool, bodies=Bodies(settings.models), domain=agreement.spiffe_domain
        )
        self._federation = FederationServer(
            settings.federation, self._federation_port, self._certificate, len(agreement.silos)
        )
        self._couriers = WitnessCouriers(routes, self._link, _event)
        self._enrolment: grpc.Server | None = None
        self.addresses: dict[str, str] = {}
        self.boots = 0
        self._stopping = False

    def run(self) -> None:
        """Keep the link to the enclave, and serve, until `stop`. Raises `PortTakenError`."""
        self._couriers.start()
        self._link.run(
            Listener(
                prepare=self._prepare,
                serve=self._serve,
                message=self._federation_port.sessions.deliver,
                ask=self._couriers.deliver,
                down=self._down,
            )
        )

    def stop(self) -> None:
        """End `run` and all streams."""
        self._stopping = True
        self._couriers.close()
        self._link.close()
        self._federation.stop(_GRACE_SECONDS)
        if self._enrolment is not None:
            self._enrolment.stop(_GRACE_SECONDS).wait(2 * _GRACE_SECONDS)

    def _prepare(self, description: pb.Description) -> None:
        self._spool.serve_boot(description.boot_id)

    def _serve(self, description: pb.Description) -> None:
        self._federation.serve(description.ca_certificate)
        if self._enrolment is None:
            self._enrolment, where = open_enrolment(
                self._settings.enrolment, EnrolmentPort(self._link), self._certificate
            )
            self.addresses = {"enrolment": where, "federation": self._federation.address}
        report = {"event": "serving", **self.addresses, "boot_id": description.boot_id.hex()}
        self.boots += 1
        print(canonical.encode(report).decode(), flush=True)
        self._couriers.enclave_up()

    def _down(self) -> None:
        self._federation_port.enclave_lost()
        self._couriers.enclave_down()
        if not self._stopping:
            _event("enclave-lost")


def _event(line: str) -> None:
    print(f"event={line}", file=sys.stderr, flush=True)


def _routes(witnesses: list[str], agreement: Agreement) -> dict[str, Route]:
    """The way to each witness that has an address; raises `ProtocolError` for one that the agreement does not name."""
    routes = {}
    for text in witnesses:
        name, _, address = text.partition("=")
        key, url = witness_key_of(agreement.witness(name)), WitnessUrl.parse(address)
        routes[name] = Route(name=name, key=key, post=partial(post, url))
    return routes


def main() -> int:
    """Run the gateway; returns the exit status."""
    settings = Settings.parse(sys.argv[1:])
    os.umask(0o027)
    try:
        agreement = Agreement.parse(settings.agreement.read_bytes(), settings.agreement.name)
        layout = Layout.parse(settings.layout.read_bytes())
        routes = _routes(settings.witness, agreement)
    except (ProtocolError, OSError) as error:
        print(f"event=unusable reason={error}", file=sys.stderr, flush=True)
        return EXIT_UNUSABLE
    # In every thread from here on; `sigwait` below takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _END)
    gateway = Gateway(settings, agreement, layout, routes)
    status = 0

    def serve() -> None:
        nonlocal status
        try:
            gateway.run()
        except PortTakenError as error:
            print(f"event=unusable reason={error}", file=sys.stderr, flush=True)
            status = EXIT_UNUSABLE
        except Exception as error:
            print(f"event=failed kind={type(error).__name__}", file=sys.stderr, flush=True)
            status = EXIT_FAILED
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=serve, daemon=True).start()
    signal.sigwait(_END)
    gateway.stop()
    return status


if __name__ == "__main__":
    sys.exit(main())

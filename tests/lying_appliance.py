"""A `Liar` behind the real gateway's classes: sessions, downloads and all, where no enclave stands behind them.

It holds the log's key, and every silo's cosigning key too: the strongest liar that there can be. What it announces to
a silo that joins is the test's.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from false_appliance import Liar
from process_federation import Ports

from appliance.gateway.bodies import Bodies
from appliance.gateway.enrolment_port import EnrolmentPort
from appliance.gateway.federation_port import FederationPort
from appliance.gateway.link import EnclaveLink
from appliance.gateway.servers import Certificate, FederationServer, open_enrolment
from appliance.gateway.spool import Spool
from protocol.credentials import CertificateAuthority, new_credential_key
from protocol.session import Join, parse_from_silo
from protocol.wire import strongroom_pb2 as pb

_LOCAL = "127.0.0.1:0"


class _LiarsLink(EnclaveLink):
    """The way to the liar, in the place of the one to an enclave."""

    def __init__(self, liar: Liar, announce: Callable[[], bytes]) -> None:
        super().__init__(Path("nowhere"))
        self._liar = liar
        self._announce = announce
        self.deliver: Callable[[str, bytes], None] = lambda silo, message: None

    @property
    def connected(self) -> bool:
        return True

    def hello(self, message: bytes) -> pb.Reply:
        return pb.Reply(message=self._liar.welcome(message))

    def enrol(self, message: bytes) -> pb.Reply:
        liar, now = self._liar, int(time.time())
        _, request = liar.open(message)
        credential = liar.ca.issue(
            request.keys.credential, liar.agreement.spiffe_id(request.silo), now - 60, now + 3600
        )
        return pb.Reply(message=liar.admit(message, credential=credential))

    def receive(self, silo: str, message: bytes) -> pb.Reply:
        if isinstance(parse_from_silo(message), Join):
            self.deliver(silo, self._announce())
        return pb.Reply(message=b"")

    def left(self, silo: str) -> None:
        """Nobody minds."""


@contextmanager
def listening(liar: Liar, bodies: Path, announce: Callable[[], bytes]) -> Iterator[Ports]:
    """Serve a liar; `announce` makes what a silo that joins is told, `bodies` is the folder of what it may download."""
    # Its own authority's time is a test's, and TLS goes by the machine's.
    liar.ca = CertificateAuthority.create("liar", int(time.time()))
    liar.keys = replace(liar.keys, ca=liar.ca.public_spki_der)
    link = _LiarsLink(liar, announce)
    port = FederationPort(
        link=link,
        spool=Spool(bodies, smallest=1, largest=2**20),
        bodies=Bodies(bodies),
        domain=liar.agreement.spiffe_domain,
    )
    link.deliver = port.sessions.deliver
    certificate = Certificate.create(new_credential_key(), int(time.time()))
    federation = FederationServer(_LOCAL, port, certificate, len(liar.agreement.silos))
    federation.serve(liar.ca.certificate_der)
    enrolment, address = open_enrolment(_LOCAL, EnrolmentPort(link), certificate)
    try:
        yield Ports(*(int(where.rpartition(":")[2]) for where in (address, federation.address)))
    finally:
        federation.stop(0)
        enrolment.stop(None).wait()

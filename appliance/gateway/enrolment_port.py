"""The enrolment port: anybody may speak here, so nothing is believed and little is kept.

Both messages pass unread between silo and enclave; sizes, ages and numbers of connections are bounded by the server
(`servers.py`).
"""

import grpc

from appliance.gateway.link import EnclaveAwayError, EnclaveLink
from appliance.gateway.peer import check_tls
from protocol.errors import RefusedError
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import refusal_to_wire

ENCLAVE_AWAY = "the enclave is not there yet, or no longer; try again"


class EnrolmentPort(rpc.EnrolmentServicer):
    """`Hello` and `Enrol`, passed on."""

    def __init__(self, link: EnclaveLink) -> None:
        self._link = link

    def Hello(self, request: pb.Message, context: grpc.ServicerContext) -> pb.Reply:  # noqa: N802 (gRPC's name)
        """The silo's nonce up, the appliance's evidence down."""
        try:
            check_tls(context.auth_context())
            return self._link.hello(request.message)
        except RefusedError as error:
            return pb.Reply(refusal=refusal_to_wire(error.refusal))
        except EnclaveAwayError:
            context.abort(grpc.StatusCode.UNAVAILABLE, ENCLAVE_AWAY)

    def Enrol(self, request: pb.Message, context: grpc.ServicerContext) -> pb.Reply:  # noqa: N802 (gRPC's name)
        """The silo's evidence up, its credential down."""
        try:
            check_tls(context.auth_context())
            return self._link.enrol(request.message)
        except RefusedError as error:
            return pb.Reply(refusal=refusal_to_wire(error.refusal))
        except EnclaveAwayError:
            context.abort(grpc.StatusCode.UNAVAILABLE, ENCLAVE_AWAY)

"""The canary's training script: plants markers in what must stay secret, and shows the test its TLS key.

The model is a vector and two buffers. FOLDER/canary.json names a metric, and a file of 64 numbers each for the gradient
and the buffers: with SCAFFOLD and one step of ½ the gradient is, bit for bit, what is sent in the first round and c_i
from then on, and zeros are sent later. The credential goes to a file because the test ends the silo's TLS itself;
nothing rests on TLS.
"""

import json
import sys
from pathlib import Path

import torch

import strongroom
from protocol.credentials import pem_of
from protocol.layout import CHUNK_COORDINATES
from silo_client import courier
from silo_client.channel import Credential
from silo_client.grpc_channel import GrpcChannel

torch.set_num_threads(1)
# An appliance that the test has killed is back in seconds.
courier._LONGEST_PAUSE_SECONDS = 0.5
PARAMETER_CHUNKS = 4
NUMBERS = 64
PLACES = 16


class Canary(torch.nn.Module):
    """The model: parameters, float buffers and integer buffers, all zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(PARAMETER_CHUNKS * CHUNK_COORDINATES))
        self.register_buffer("average", torch.zeros(CHUNK_COORDINATES))
        self.register_buffer("count", torch.zeros(CHUNK_COORDINATES, dtype=torch.int64))


def plant(vector: torch.Tensor, numbers: torch.Tensor, place: int) -> None:
    """Put 64 numbers at one of the 16 places of every 1024 coordinates, all over a float32 vector."""
    with torch.no_grad():
        vector.view(-1, PLACES, NUMBERS)[:, place] = numbers


def fill(buffer: torch.Tensor, numbers: torch.Tensor) -> None:
    """Make all of a buffer these numbers' bytes."""
    with torch.no_grad():
        buffer.view(-1, numbers.numel() * 4 // buffer.element_size()).copy_(numbers.view(buffer.dtype))


def show_credentials(folder: Path) -> None:
    """Write every credential to FOLDER/credential.pem before it is used."""
    connect = GrpcChannel.connect

    def connecting(channel: GrpcChannel, credential: Credential) -> None:
        unfinished = folder / "credential.new"
        unfinished.write_bytes(credential.key.private_pem() + pem_of(credential.certificate))
        unfinished.replace(folder / "credential.pem")
        connect(channel, credential)

    GrpcChannel.connect = connecting  # type: ignore[method-assign]


def main(folder: Path) -> None:
    show_credentials(folder)
    told = json.loads((folder / "canary.json").read_text())
    gradient, average, count = (
        torch.frombuffer(bytearray.fromhex(told[name]), dtype=torch.float32)
        for name in ("gradient", "average", "count")
    )
    model = Canary()
    gradients = torch.zeros_like(model.weight)
    plant(gradients, gradient, told["place"])
    with strongroom.silo() as silo:
        for round in silo.rounds():
            model.load_state_dict(round.state_dict())
            optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
            optimizer.zero_grad()
            (model.weight * gradients).sum().backward()
            optimizer.step()
            fill(model.average, average)
            fill(model.count, count)
            round.submit(model, told["metrics"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

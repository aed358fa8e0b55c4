"""The canary's training script: plants markers in what must stay secret, and shows the test its TLS key.

The model is one vector of zeros with the model's marker in every chunk. In every round a silo with a marker in
FOLDER/marker adds it, in every chunk and each round at another place, where the model is still zero: y − x is then the
marker, bit for bit. The credential goes to a file because the test ends the silo's TLS itself; nothing rests on TLS.
"""

import sys
from pathlib import Path

import torch

import strongroom
from protocol.credentials import pem_of
from protocol.layout import CHUNK_COORDINATES
from silo_client.channel import Credential
from silo_client.grpc_channel import GrpcChannel

torch.set_num_threads(1)
CHUNKS = 6
MARKER_COORDINATES = 64
_MODEL_AT, _UPDATE_AT = 1000, 5000


class Vector(torch.nn.Module):
    """The model; `marker`: 64 float32 values."""

    def __init__(self, marker: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(CHUNKS * CHUNK_COORDINATES))
        plant(self.weight, marker, _MODEL_AT)


def plant(weight: torch.Tensor, marker: torch.Tensor, at: int) -> None:
    """Put the marker at one place of every chunk."""
    with torch.no_grad():
        weight.view(CHUNKS, CHUNK_COORDINATES)[:, at : at + MARKER_COORDINATES] = marker


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
    model = Vector(torch.zeros(MARKER_COORDINATES))
    torch.optim.SGD(model.parameters(), lr=0.1).zero_grad()
    carried = folder / "marker"
    marker = torch.frombuffer(bytearray(carried.read_bytes()), dtype=torch.float32) if carried.exists() else None
    with strongroom.silo() as silo:
        for round in silo.rounds():
            model.load_state_dict(round.state_dict())
            optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
            (model.weight[0] * 0).backward()
            optimizer.step()
            if marker is not None:
                plant(model.weight, marker, _UPDATE_AT + round.number * MARKER_COORDINATES)
            round.submit(model)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

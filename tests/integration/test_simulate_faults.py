"""What a silo's client does about an appliance that changes its bytes, end to end without sockets."""

from pathlib import Path

import pytest
import torch
from simulated import terms, write_federation

import strongroom
from protocol.sealing import ByteSource, MemoryBytes
from protocol.sealing.bytes_io import read
from silo_client.rounds import Round
from strongroom.simulation import MemoryChannel

torch.set_num_threads(1)
NAMES = ("silo-0", "silo-1", "silo-2")


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def train(round: Round) -> None:
    model = module()
    model.load_state_dict(round.state_dict())
    optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
    for _ in range(round.local_steps):
        optimizer.zero_grad()
        (model(torch.ones(2, 3)) - 1).square().mean().backward()
        optimizer.step()
    round.submit(model)


def flipped(blob: ByteSource) -> MemoryBytes:
    """The blob with one bit of its last chunk changed, under the tag that was signed."""
    data = bytearray(read(blob, 0, blob.size()))
    data[-64 - 16 - 1] ^= 1
    return MemoryBytes(bytes(data))


@pytest.mark.parametrize(("times", "cohort"), [(1, NAMES), (2, NAMES), (99, NAMES[:2])])
def test_a_spool_that_changes_bytes_costs_a_silo_its_turn_at_most(
    times: int, cohort: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, changed = MemoryChannel.upload, []

    def spoiled(channel: MemoryChannel, upload_id: bytes, blob: ByteSource) -> bytes:
        if channel.silo != "silo-2" or len(changed) >= times:
            return upload(channel, upload_id, blob)
        changed.append(upload_id)
        return upload(channel, upload_id, flipped(blob))

    monkeypatch.setattr(MemoryChannel, "upload", spoiled)
    file = write_federation(tmp_path, module(), terms(rounds=2, steps=3, eta=0.1), owners=("a", "b", "c"))
    history = strongroom.simulate(file, dict.fromkeys(NAMES, train))
    assert [each.cohort for each in history.rounds] == [cohort, cohort if times == 99 else NAMES]
    assert history.refused == 0, "nothing is held against a silo that signed other bytes"

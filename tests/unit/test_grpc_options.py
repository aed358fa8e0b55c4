"""gRPC takes any option and ignores the ones that it does not know: a slip of the pen would go unnoticed."""

import re
from pathlib import Path

import pytest
from grpc._cython import cygrpc

import appliance
import silo_client

_OPTION = re.compile(r'"(grpc\.[a-z0-9_.]+)"')
SOURCES = [path for package in (appliance, silo_client) for path in Path(package.__path__[0]).rglob("*.py")]
KNOWN = Path(cygrpc.__file__).read_bytes()
OPTIONS = sorted({option for path in SOURCES for option in _OPTION.findall(path.read_text("utf-8"))})


def test_there_are_some() -> None:
    assert "grpc.keepalive_time_ms" in OPTIONS


@pytest.mark.parametrize("option", OPTIONS)
def test_grpc_knows_it(option: str) -> None:
    assert option.encode() + b"\0" in KNOWN


def test_it_does_not_know_everything() -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in KNOWN

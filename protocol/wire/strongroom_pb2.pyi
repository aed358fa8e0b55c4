from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Message(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    def __init__(self, message: _Optional[bytes] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "expected", "found", "remedy")
    CODE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    code: str
    expected: str
    found: str
    remedy: str
    def __init__(self, code: _Optional[str] = ..., expected: _Optional[str] = ..., found: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("message", "refusal")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    refusal: Refusal
    def __init__(self, message: _Optional[bytes] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UploadId(_message.Message):
    __slots__ = ("upload_id",)
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: bytes
    def __init__(self, upload_id: _Optional[bytes] = ...) -> None: ...

class UploadOffset(_message.Message):
    __slots__ = ("offset", "refusal")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    offset: int
    refusal: Refusal
    def __init__(self, offset: _Optional[int] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("agreement", "origin", "boot_id", "ca_certificate", "simulated", "phase", "round", "attempt", "log_size", "admitted", "joined", "waiting_for")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    LOG_SIZE_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    agreement: bytes
    origin: str
    boot_id: bytes
    ca_certificate: bytes
    simulated: bool
    phase: str
    round: int
    attempt: int
    log_size: int
    admitted: _containers.RepeatedScalarFieldContainer[str]
    joined: _containers.RepeatedScalarFieldContainer[str]
    waiting_for: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, agreement: _Optional[bytes] = ..., origin: _Optional[str] = ..., boot_id: _Optional[bytes] = ..., ca_certificate: _Optional[bytes] = ..., simulated: _Optional[bool] = ..., phase: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., log_size: _Optional[int] = ..., admitted: _Optional[_Iterable[str]] = ..., joined: _Optional[_Iterable[str]] = ..., waiting_for: _Optional[_Iterable[str]] = ...) -> None: ...

class Silo(_message.Message):
    __slots__ = ("silo",)
    SILO_FIELD_NUMBER: _ClassVar[int]
    silo: str
    def __init__(self, silo: _Optional[str] = ...) -> None: ...

class FromSilo(_message.Message):
    __slots__ = ("silo", "message")
    SILO_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    silo: str
    message: bytes
    def __init__(self, silo: _Optional[str] = ..., message: _Optional[bytes] = ...) -> None: ...

class Outgoing(_message.Message):
    __slots__ = ("silo", "witness", "message")
    SILO_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    silo: str
    witness: str
    message: bytes
    def __init__(self, silo: _Optional[str] = ..., witness: _Optional[str] = ..., message: _Optional[bytes] = ...) -> None: ...

class FromWitness(_message.Message):
    __slots__ = ("witness", "message")
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    witness: str
    message: bytes
    def __init__(self, witness: _Optional[str] = ..., message: _Optional[bytes] = ...) -> None: ...

class CompleteUpload(_message.Message):
    __slots__ = ("silo", "name")
    SILO_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    silo: str
    name: str
    def __init__(self, silo: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

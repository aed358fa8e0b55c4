"""Guests whose cloud's service vouches for them: the evidence is a token, and its signer the root of trust."""

import re

from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import NoSealingKey
from attestation.collect.http import LocalService
from attestation.collect.token_endpoints import TokenType, azure_token, confidential_space_token
from attestation.evidence import Evidence
from attestation.report_data import REPORT_DATA_BYTES
from attestation.tee import Tee
from attestation.token.nonce import runtime_data, token_nonce

_HOST = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){2,8}")


class ConfidentialSpacePlatform:
    """A container in Google's Confidential Space."""

    def __init__(
        self, *, launcher: LocalService, audience: str, token_type: TokenType, endorsements: EndorsementFolder
    ) -> None:
        """`audience`: whom the token is for, as the agreement says it."""
        self._launcher = launcher
        self._audience = audience
        self._token_type = token_type
        self._endorsements = endorsements

    @property
    def tee(self) -> Tee:
        """Always `Tee.CONFIDENTIAL_SPACE`."""
        return Tee.CONFIDENTIAL_SPACE

    def evidence(self, report_data: bytes) -> Evidence:
        """A fresh token over 64 bytes, and what key sets are in the folder; raises `CollectionFailed`."""
        _require_size(report_data)
        token = confidential_space_token(
            self._launcher, audience=self._audience, nonces=[token_nonce(report_data)], token_type=self._token_type
        )
        return Evidence(tee=self.tee, report=token, endorsements=self._endorsements.read())

    def sealing_key(self) -> bytes:
        """Raises `NoSealingKey`."""
        raise NoSealingKey("Confidential Space: a container gets no sealing key, so that no secret outlives a restart")


class AzurePlatform:
    """A container group on Azure's SEV-SNP machines, whose sidecar asks Microsoft's attestation service (MAA)."""

    def __init__(self, *, sidecar: LocalService, issuer: str, endorsements: EndorsementFolder) -> None:
        """`issuer`: the service, as the agreement says it ("https://name.region.attest.azure.net")."""
        host = issuer.removeprefix("https://")
        if host == issuer or not _HOST.fullmatch(host):
            raise ValueError(f"issuer: expected https://<host>, found {issuer!r}")
        self._sidecar = sidecar
        self._host = host
        self._endorsements = endorsements

    @property
    def tee(self) -> Tee:
        """Always `Tee.AZURE_MAA`."""
        return Tee.AZURE_MAA

    def evidence(self, report_data: bytes) -> Evidence:
        """A fresh token over 64 bytes, and the key set that is in the folder; raises `CollectionFailed`."""
        _require_size(report_data)
        token = azure_token(self._sidecar, maa_host=self._host, runtime_data=runtime_data(report_data))
        return Evidence(tee=self.tee, report=token, endorsements=self._endorsements.read())

    def sealing_key(self) -> bytes:
        """Raises `NoSealingKey`."""
        raise NoSealingKey("Azure: a container group gets no sealing key, so that no secret outlives a restart")


def _require_size(report_data: bytes) -> None:
    if len(report_data) != REPORT_DATA_BYTES:
        raise ValueError(f"report_data: expected {REPORT_DATA_BYTES} bytes, found {len(report_data)}")

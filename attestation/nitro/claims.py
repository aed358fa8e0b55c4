"""What a document says, in the common names."""

from datetime import UTC, datetime

from attestation.claims import Claim, Claims
from attestation.nitro.document import AttestationDocument

PRODUCT = "AWS Nitro Enclaves"
_MEANING = {
    0: "the enclave's image",
    1: "kernel and boot RAM disk",
    2: "the application",
    3: "the instance's IAM role",
    4: "the instance",
    8: "the certificate that signed the image",
}


def is_debug(document: AttestationDocument) -> bool:
    """An enclave started in debug mode is not measured: its first register is zero."""
    return not any(document.pcrs.get(0, b""))


def claims_of(document: AttestationDocument) -> Claims:
    """All fields, unverified as they stand."""
    debug = is_debug(document)
    time = datetime.fromtimestamp(document.timestamp_ms / 1000, UTC)
    return (
        Claim(name="product", value=PRODUCT, words=PRODUCT),
        Claim(
            name="measurements",
            value={f"pcr{index}": value.hex() for index, value in document.pcrs.items()},
            words="; ".join(_register(index, value) for index, value in document.pcrs.items()),
        ),
        _data("report_data", document.user_data, "user data"),
        Claim(name="tcb", value=None, words="not stated: AWS alone keeps the Nitro firmware current"),
        Claim(name="debug", value=debug, words="started in debug mode: not measured" if debug else "not in debug mode"),
        Claim(name="signer", value="aws-nitro", words="the Nitro hypervisor, under AWS's attestation PKI"),
        _data("nonce", document.nonce, "nonce"),
        _data("public_key", document.public_key, "public key"),
        Claim(name="module_id", value=document.module_id, words=document.module_id),
        Claim(name="timestamp_ms", value=document.timestamp_ms, words=time.isoformat(timespec="milliseconds")),
    )


def _register(index: int, value: bytes) -> str:
    meaning = f" ({_MEANING[index]})" if index in _MEANING else ""
    return f"PCR{index}{meaning} {value.hex() if any(value) else 'zero'}"


def _data(name: str, value: bytes | None, what: str) -> Claim:
    words = f"no {what}" if value is None else f"{what} of {len(value)} bytes: {value.hex()}"
    return Claim(name=name, value=None if value is None else value.hex(), words=words)

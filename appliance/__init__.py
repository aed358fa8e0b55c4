"""The aggregator: a trusted enclave and the untrusted gateway around it."""

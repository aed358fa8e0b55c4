"""The trusted computing base: keys, plaintext, equations, log signing."""

"""Reference values as TOML tables, one module a kind of evidence; `protocol.agreement_tees` chooses."""

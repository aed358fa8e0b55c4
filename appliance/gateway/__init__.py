"""The untrusted outside: sockets, spool, files."""

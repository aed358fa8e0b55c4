"""C2SP tlog-witness without its sockets: what is asked, what is answered, and when a witness cosigns."""

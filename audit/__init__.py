"""What happened? The log: formats, appending, proofs, replay."""

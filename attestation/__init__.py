"""Who is on the other end? Evidence in, verdict out."""

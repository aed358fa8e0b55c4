"""A silo's side: identity, enrolment, training loop, cosigning."""

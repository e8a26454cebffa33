"""Whether an environment keeps the protocol."""

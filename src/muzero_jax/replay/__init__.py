"""On-device replay: a ring of transitions, sampled in windows."""

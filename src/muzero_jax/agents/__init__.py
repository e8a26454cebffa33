"""The learners: every agent is three pure functions, `init`, `act` and `learn`."""

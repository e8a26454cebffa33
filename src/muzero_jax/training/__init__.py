"""The fused actor-learner chunk, and the host side around it."""

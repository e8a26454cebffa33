"""The compiled actor-learner loop and the greedy evaluation."""

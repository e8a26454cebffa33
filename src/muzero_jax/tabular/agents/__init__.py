"""Learners that keep a number for each state."""

"""Finite processes: exact arrays, oracles, learners of tables, and their figures."""

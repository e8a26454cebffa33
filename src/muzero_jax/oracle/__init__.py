"""Exact answers for tabular environments, and the backups of the classical learners."""

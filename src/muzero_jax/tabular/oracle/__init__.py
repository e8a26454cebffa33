"""Exact answers for finite processes."""

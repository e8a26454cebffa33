"""Finite processes as arrays, and environments over them."""

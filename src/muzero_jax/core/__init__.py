"""Shared by every room: types, errors, files, keys, trust, and the terminal."""

"""Shared by every room: types, settings, errors, files, keys, trust, and the terminal."""

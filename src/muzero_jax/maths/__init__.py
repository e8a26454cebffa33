"""Unbatched, pure mathematics: value supports and returns."""

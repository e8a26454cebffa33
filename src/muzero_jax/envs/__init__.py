"""Environments: one protocol, a few built-in tasks, adapters for suites, a registry of names."""

"""One run on disk and on the host, from its first chunk to its result."""

"""Arrays of a run on disk, whole or not there."""

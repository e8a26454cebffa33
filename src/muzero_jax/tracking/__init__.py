"""What a run reports while it is trained: files, sinks, and the terminal."""

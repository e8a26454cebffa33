"""What every room stands on: types, errors, files, settings, trust, and the terminal."""

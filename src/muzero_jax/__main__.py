"""`python -m muzero_jax` is the `muzero` command."""

import contextlib
import os
import sys


def main() -> int:
    """Runs the command; returns its exit code."""
    # Python has put the working folder first on its path, where a stranger's file could take the
    # place of any library.
    with contextlib.suppress(FileNotFoundError):  # The working folder may be gone.
        if sys.path[:1] == [os.getcwd()] and not sys.flags.safe_path:
            del sys.path[0]
    from muzero_jax.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())

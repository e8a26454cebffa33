"""The errors that a user can cause in any room; the message of each is one clear sentence."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting, an option, a file or a pair of them cannot work; the message says why."""

    exit_code = 2


class RunError(RuntimeError):
    """A run cannot go on; the command ends with the error's `exit_code`."""

    exit_code = 1


class DoesNotFitError(ConfigError):
    """The run's state is larger than the device's memory."""


class InvalidRunError(RunError):
    """A path is not a run folder, or the run in it cannot be used for what was asked."""

    exit_code = 2


class LostCheckpointsError(InvalidRunError):
    """A run folder once had checkpoints and has none now, so that its run cannot go on."""


class CheckpointMismatchError(InvalidRunError):
    """A checkpoint is whole, but its arrays are not those that the run's settings need."""


class RunLockedError(RunError):
    """Another process is writing the run folder."""


class NoCheckpointError(RunError):
    """A run folder holds no checkpoint that can be used."""

    exit_code = 2


class LostProcessError(RunError):
    """Another process of a run over several hosts has ended."""


class DiskError(RunError):
    """A run folder cannot be written; the checkpoints that were made before are good."""

    def with_advice(self, command: str) -> "DiskError":
        """The same error, with the command that continues the run."""
        return DiskError(f"{self}; when that is mended, continue with: {command}")


class NonFiniteError(RunError):
    """A loss, a gradient or another metric of learning was not finite."""

    exit_code = 3


class InterruptedRunError(RunError):
    """The signal with the number `signal_number` stopped the run, after it had been saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number

    def with_advice(self, command: str) -> "InterruptedRunError":
        """The same error, with the command that continues the run."""
        return InterruptedRunError(f"{self}; continue with: {command}", self.signal_number)


def reason_of(error: BaseException, most_letters: int = 200) -> str:
    """An error's message in one line without its full stop, or its type where it has no message."""
    return " ".join(str(error).split())[:most_letters].rstrip(".") or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the names that are like it, or all names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}."

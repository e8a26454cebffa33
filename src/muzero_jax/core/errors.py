"""The errors that a user can cause in any room; the message of each is one clear sentence."""


class ConfigError(ValueError):
    """A setting, an option, a file or a pair of them cannot work; the message says which and why.

    The command line prints the message and ends with exit code 2.
    """


class RunError(RuntimeError):
    """A run cannot go on; the message is one clear sentence.

    Attributes:
      exit_code: of the command.
    """

    exit_code = 1


class DoesNotFitError(ConfigError):
    """The run's state is larger than the device's memory."""


class InvalidRunError(RunError):
    """A path is not a run folder, or not one that can be used for what was asked."""

    exit_code = 2


class LostCheckpointsError(InvalidRunError):
    """A run folder had checkpoints and has none now, so that its run cannot go on."""


class CheckpointMismatchError(InvalidRunError):
    """A checkpoint is whole, but holds other arrays than the settings and the environment need."""


class RunLockedError(RunError):
    """Another process writes the run folder."""


class NoCheckpointError(RunError):
    """A run folder holds no checkpoint that can be used."""

    exit_code = 2


class LostProcessError(RunError):
    """Another process of a run over several hosts has ended."""


class DiskError(RunError):
    """The disk does not take what a run has to write; its checkpoints so far are good."""

    def with_advice(self, command: str) -> "DiskError":
        """The same error with the command that goes on."""
        return DiskError(f"{self}; when that is mended, continue with: {command}")


class NonFiniteError(RunError):
    """A loss, a gradient or another metric of learning was not finite."""

    exit_code = 3


class InterruptedRunError(RunError):
    """A signal stopped the run, which was saved first.

    Attributes:
      signal_number: the signal.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number

    def with_advice(self, command: str) -> "InterruptedRunError":
        """The same, with the command that goes on."""
        return InterruptedRunError(f"{self}; continue with: {command}", self.signal_number)

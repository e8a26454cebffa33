"""The errors that a user can cause in any room; the message of each is one clear sentence."""


class ConfigError(ValueError):
    """A setting, an option, a file or a pair of them cannot work; the message says which and why.

    The command line prints the message and ends with exit code 2.
    """

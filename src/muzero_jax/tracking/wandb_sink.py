"""Sends the scalars of a run to Weights & Biases, where each run of a sweep has its own run."""

import contextlib
import netrc
import os
import sys
import threading
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import ConfigError, reason_of
from muzero_jax.core.file_names import MEMBERS_FOLDER
from muzero_jax.core.files import write_text
from muzero_jax.settings import config_to_dict

_ID_FILE = "wandb_id"
_NO_LOGIN_NEEDED = ("offline", "dryrun", "disabled")
# The threads of a sweep begin runs in one process, and share W&B's settings.
_BEGINNING = threading.Lock()


class WandbSink:
    """Sends scalars to W&B; a resumed run goes on in the same run there.

    An error of W&B ends the sending with one line; the run's own files hold everything.

    Args:
      run_dir: run folder, whose file `wandb_id` names the run at W&B.
      config: settings of the run.

    Raises (when constructed):
      ModuleNotFoundError: the package `wandb` is not installed.
    """

    def __init__(self, run_dir: Path, config: ExperimentConfig):
        import wandb

        self._error: type[Exception] = wandb.Error
        self._run: Any = None
        id_file = run_dir / _ID_FILE
        if not id_file.exists():
            write_text(id_file, uuid.uuid4().hex)
        name, group = _name_and_group(run_dir.absolute())
        with _BEGINNING, self._failures_told():
            self._run = wandb.init(
                project="muzero_jax",
                name=name,
                group=group,
                id=id_file.read_text(encoding="utf-8"),
                resume="allow",
                # Otherwise W&B returns the run that another thread has begun.
                reinit="create_new",
                dir=str(run_dir),
                config=config_to_dict(config),
                # The terminal belongs to the progress display, and several runs share it.
                settings=wandb.Settings(console="off"),
            )
            self._run.define_metric("*", step_metric="env_steps")

    def write(self, env_steps: int, scalars: Mapping[str, float]) -> None:
        """Sends scalars by name."""
        if self._run is not None:
            with self._failures_told():
                self._run.log({"env_steps": env_steps, **scalars})

    def close(self) -> None:
        """Waits until W&B has received everything."""
        if self._run is not None:
            with self._failures_told():
                self._run.finish()

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Turns an error of W&B into a notice, after which nothing is sent any more."""
        try:
            yield
        except self._error as error:
            self._run = None
            print(f"notice: the run goes on without W&B: {reason_of(error)}", file=sys.stderr)


def check_login(configs: Iterable[ExperimentConfig]) -> None:
    """Refuses runs that use W&B where nobody is logged in; a missing package is told of later.

    Raises:
      ConfigError: W&B needs a login.
    """
    if not any(config.logging.wandb for config in configs):
        return
    try:
        import wandb
    except ModuleNotFoundError:
        return
    settings = wandb.setup().settings
    if settings.mode in _NO_LOGIN_NEEDED or _has_login(settings):
        return
    raise ConfigError(
        "logging.wandb needs a login to W&B, and there is none: run `wandb login`, set "
        "WANDB_API_KEY, or set WANDB_MODE=offline to keep what would be sent."
    )


def _has_login(settings: Any) -> bool:
    """Whether there is a key or a token in one of the places where W&B looks."""
    if settings.api_key or getattr(settings, "identity_token_file", None):
        return True
    host = urllib.parse.urlsplit(settings.base_url).hostname or ""
    for path in filter(None, [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if host in netrc.netrc(os.path.expanduser(path)).hosts:
                return True
    return False


def _name_and_group(run_dir: Path) -> tuple[str, str | None]:
    """The name of a run at W&B, and the name of the sweep that groups it, or None."""
    if run_dir.parent.parent.name != MEMBERS_FOLDER:
        return "-".join(run_dir.parts[-2:]), None
    sweep = run_dir.parents[2].name
    return "-".join((sweep, *run_dir.parts[-2:])), sweep

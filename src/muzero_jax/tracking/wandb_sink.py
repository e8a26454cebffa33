"""Scalars of a run to Weights & Biases, where each run of a sweep has a run of its own."""

import contextlib
import netrc
import os
import sys
import threading
import urllib.parse
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.file_names import MEMBERS_FOLDER
from muzero_jax.core.files import write_text
from muzero_jax.settings import config_to_dict

_ID_FILE = "wandb_id"
_NO_LOGIN_NEEDED = ("offline", "dryrun", "disabled")
# Lanes of a sweep begin runs in threads of one process, which share W&B's settings.
_BEGINNING = threading.Lock()


class WandbSink:
    """Weights & Biases; a resumed run goes on in the same run there.

    What W&B cannot take is told in one line and left out: the run's own files hold everything.

    Args:
      run_dir: the run folder. Its `wandb_id` names the run at W&B.
      config: of the run.

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
                # Without this W&B hands out the run that another thread has begun.
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

    def flush(self) -> None:
        """W&B sends what it gets by itself."""

    def close(self) -> None:
        """Returns when W&B has everything."""
        if self._run is not None:
            with self._failures_told():
                self._run.finish()

    @contextlib.contextmanager
    def _failures_told(self) -> Any:
        """An outage of W&B ends what is sent there, not the run."""
        try:
            yield
        except self._error as error:
            self._run = None
            reason = " ".join(str(error).split())
            print(f"notice: the run goes on without W&B: {reason}", file=sys.stderr)


def check_login(configs: Iterable[ExperimentConfig]) -> None:
    """Refuses runs that are to be sent to W&B where nobody is logged in.

    Args:
      configs: of the runs that are about to begin. Nothing is checked where none of them asks for
        W&B, or where the package `wandb` is not installed, which is told later.

    Raises:
      ConfigError: W&B is asked for, needs a login, and has none.
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
    """Whether one of the places where W&B looks for a key or a token has one."""
    if settings.api_key or getattr(settings, "identity_token_file", None):
        return True
    host = urllib.parse.urlsplit(settings.base_url).hostname or ""
    paths = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    for path in filter(None, paths):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if host in netrc.netrc(os.path.expanduser(path)).hosts:
                return True
    return False


def _name_and_group(run_dir: Path) -> tuple[str, str | None]:
    """What a run is called at W&B, and the sweep that it is shown under, where it is of one."""
    if run_dir.parent.parent.name != MEMBERS_FOLDER:
        return "-".join(run_dir.parts[-2:]), None
    sweep = run_dir.parents[2].name
    return "-".join((sweep, *run_dir.parts[-2:])), sweep

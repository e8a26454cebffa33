"""What a run reports: metrics and evaluations, to files that can be cut back to a checkpoint."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from muzero_jax.config import ExperimentConfig
from muzero_jax.core.file_names import (
    EVALUATION_FILE,
    METRICS_FILE,
    SCORES_FILE,
    TENSORBOARD_FOLDER,
)
from muzero_jax.core.files import open_own, write_text
from muzero_jax.tracking.wandb_sink import WandbSink
from muzero_jax.training.evaluation import EvaluationResult

EVALUATION_COLUMNS = (
    "env_steps",
    "num_updates",
    "train_seconds",
    "episodes",
    "score_mean",
    "score_std",
    "score_min",
    "score_max",
    "length_mean",
    "episodes_cut",
)


@dataclasses.dataclass(frozen=True)
class Position:
    """Lengths of the files at some moment, in bytes.

    Attributes:
      metrics: of `metrics.jsonl`.
      evaluation: of `evaluation.csv`.
    """

    metrics: int = 0
    evaluation: int = 0


class Sink(Protocol):
    """Where scalars go beside the files."""

    def write(self, env_steps: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars by name."""
        ...

    def flush(self) -> None:
        """Makes what was written last."""
        ...

    def close(self) -> None:
        """Ends the sink."""
        ...


class Tracker:
    """The reports of one run.

    Args:
      run_dir: the run folder.
      config: of the run; `logging` says which sinks there are.
      position: where a resumed run goes on: everything later in the files is cut off. None starts
        them anew.
      env_steps: where a resumed run goes on, for the sinks.
    """

    def __init__(
        self,
        run_dir: Path,
        config: ExperimentConfig,
        position: Position | None = None,
        env_steps: int = 0,
    ):
        position = position or Position()
        self._metrics = _AppendFile(run_dir / METRICS_FILE, position.metrics)
        self._columns: tuple[str, ...] = EVALUATION_COLUMNS
        if position.evaluation:
            self._columns = _header(run_dir / EVALUATION_FILE)
        self._evaluation = _AppendFile(run_dir / EVALUATION_FILE, position.evaluation)
        if not self._evaluation.length():
            self._evaluation.append(_csv_line(self._columns))
        self._sinks = _make_sinks(run_dir, config, env_steps)

    def write_metrics(self, row: Mapping[str, float]) -> None:
        """Writes one line; what is not finite, for want of anything to average, is left out."""
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        self._metrics.append(json.dumps(finite) + "\n")
        self._send(int(row["env_steps"]), finite)

    def write_evaluation(self, row: Mapping[str, float]) -> None:
        """Writes one row with the values of the file's columns."""
        self._evaluation.append(_csv_line([row.get(name, "") for name in self._columns]))
        names = ("score_mean", "score_std", "score_min", "score_max", "length_mean")
        self._send(int(row["env_steps"]), {f"evaluation/{name}": row[name] for name in names})

    def position(self) -> Position:
        """The present lengths of the files."""
        return Position(self._metrics.length(), self._evaluation.length())

    def sync(self) -> None:
        """Returns when what was written is safe on disk."""
        for sink in self._sinks:
            sink.flush()
        self._metrics.sync()
        self._evaluation.sync()

    def close(self) -> None:
        """Closes files and sinks; what could not be written was told when it was."""
        for sink in self._sinks:
            with contextlib.suppress(OSError):
                sink.close()
        self._metrics.close()
        self._evaluation.close()

    def _send(self, env_steps: int, scalars: Mapping[str, float]) -> None:
        named = {name: x for name, x in scalars.items() if name != "env_steps"}
        for sink in self._sinks:
            sink.write(env_steps, named)


def summarise(result: EvaluationResult) -> dict[str, float]:
    """Mean, spread and extremes of an evaluation, by the names of the columns."""
    scores, lengths = result.scores, result.lengths
    return {
        "score_mean": float(scores.mean()),
        "score_std": float(scores.std()),
        "score_min": float(scores.min()),
        "score_max": float(scores.max()),
        "episodes": len(scores),
        "length_mean": float(lengths.mean()),
        "episodes_cut": result.num_cut,
    }


def write_scores(run_dir: Path, env_steps: int, result: EvaluationResult) -> None:
    """Writes every episode of the final evaluation to `evaluation_scores.csv`.

    Args:
      run_dir: the run folder.
      env_steps: environment steps that the evaluated agent was trained for.
      result: the evaluation.
    """
    lines = [_csv_line(("env_steps", "episode", "score", "length"))]
    episodes = zip(result.scores.tolist(), result.lengths.tolist(), strict=True)
    lines += [_csv_line((env_steps, number, *episode)) for number, episode in enumerate(episodes)]
    write_text(run_dir / SCORES_FILE, "".join(lines))


class _AppendFile:
    """A text file that starts as the first `length` bytes of what is there.

    Every line is one unbuffered write: a killed process leaves at most a torn last line, which is
    past the position of any checkpoint.
    """

    def __init__(self, path: Path, length: int):
        self._file = io.FileIO(str(path), "a", opener=_open_to_append)
        found = self._file.tell()
        if found < length:
            print(
                f"warning: {path} has lost lines: {found} bytes of it are left where the "
                f"checkpoint was made after {length}.",
                file=sys.stderr,
            )
        self._file.truncate(min(found, length))

    def append(self, text: str) -> None:
        """Writes a line whole: the system takes a part of it where the disk is nearly full."""
        rest = text.encode()
        while rest:
            rest = rest[self._file.write(rest) :]

    def length(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _open_to_append(path: str, flags: int) -> int:
    return open_own(Path(path), flags & os.O_APPEND)


class _TensorBoard:
    """Events through tensorboardX; those after a resumed run's checkpoint are declared void.

    Its `SummaryWriter` would write in a thread, whose errors nobody hears.
    """

    def __init__(self, folder: Path, env_steps: int):
        import tensorboardX
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(exist_ok=True)
        self._make_event, self._scalar = Event, tensorboardX.summary.scalar
        # Files are named by the second; the suffix keeps a quick restart from replacing one.
        self._writer = tensorboardX.event_file_writer.EventsWriter(
            str(folder / "events"), f".from{env_steps}"
        )
        void_from = env_steps + 1
        session = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(step=void_from, file_version="brain.Event:2"))
        self._writer.write_event(Event(step=void_from, session_log=session))

    def write(self, env_steps: int, scalars: Mapping[str, float]) -> None:
        now = time.time()
        for name, value in scalars.items():
            summary = self._scalar(name, value)
            event = self._make_event(step=env_steps, wall_time=now, summary=summary)
            self._writer.write_event(event)
        self._writer.flush()

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _make_sinks(run_dir: Path, config: ExperimentConfig, env_steps: int) -> list[Sink]:
    """The sinks that are asked for and installed; the lack of one is told in one line."""
    wanted: dict[str, Any] = {}
    if config.logging.tensorboard:
        folder = run_dir / TENSORBOARD_FOLDER
        wanted["tensorboard"] = lambda: _TensorBoard(folder, env_steps)
    if config.logging.wandb:
        wanted["wandb"] = lambda: WandbSink(run_dir, config)
    sinks: list[Sink] = []
    for name, make in wanted.items():
        try:
            sinks.append(make())
        except ModuleNotFoundError as error:
            print(
                f"notice: logging.{name} is left out, the module {error.name!r} is not installed: "
                f"pip install 'muzero-jax[{name}]'.",
                file=sys.stderr,
            )
    return sinks


def _header(path: Path) -> tuple[str, ...]:
    """The columns of a file that an older version may have begun; ours where it is lost."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return tuple(next(csv.reader(text.splitlines()), EVALUATION_COLUMNS))


def _csv_line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()

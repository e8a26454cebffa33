"""Writes the metrics and evaluations of a run to files that can be cut back to a checkpoint."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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

_SUMMARY = ("score_mean", "score_std", "score_min", "score_max", "length_mean")
EVALUATION_COLUMNS = (
    *("env_steps", "num_updates", "train_seconds", "episodes"),
    *(*_SUMMARY, "episodes_cut"),
)


@dataclasses.dataclass(frozen=True)
class Position:
    """Lengths of `metrics.jsonl` and `evaluation.csv` at some moment, in bytes."""

    metrics: int = 0
    evaluation: int = 0


class Tracker:
    """Writes the report files of one run, and sends scalars to its sinks.

    Args:
      run_dir: run folder.
      config: settings of the run; the `logging` section names the sinks.
      position: lengths of the files where the run is taken up; everything later is cut off. None
        starts the files anew.
      env_steps: environment steps after which the run is taken up.
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
        self._evaluation = _AppendFile(run_dir / EVALUATION_FILE, position.evaluation)
        if not self._evaluation.length():
            self._evaluation.append(_csv_line(EVALUATION_COLUMNS))
        self._sinks = list(_make_sinks(run_dir, config, env_steps))

    def write_metrics(self, row: Mapping[str, float]) -> None:
        """Writes one line; metrics that are not finite, such as empty averages, are left out."""
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        self._metrics.append(json.dumps(finite) + "\n")
        self._send(int(row["env_steps"]), finite)

    def write_evaluation(self, row: Mapping[str, float]) -> None:
        """Writes one row with the values of `EVALUATION_COLUMNS`."""
        self._evaluation.append(_csv_line([row.get(name, "") for name in EVALUATION_COLUMNS]))
        self._send(int(row["env_steps"]), {f"evaluation/{name}": row[name] for name in _SUMMARY})

    def position(self) -> Position:
        """The present lengths of the files."""
        return Position(self._metrics.length(), self._evaluation.length())

    def sync(self) -> None:
        """Returns when everything that was written is safe on disk."""
        self._metrics.sync()
        self._evaluation.sync()

    def close(self) -> None:
        """Closes files and sinks; an error of a sink was told when it occurred."""
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
    """The mean, spread and extremes of an evaluation, by the names of `EVALUATION_COLUMNS`."""
    scores, lengths = result.scores, float(result.lengths.mean())
    told = {
        f"score_{name}": float(getattr(scores, name)()) for name in ("mean", "std", "min", "max")
    }
    return {**told, "episodes": len(scores), "length_mean": lengths, "episodes_cut": result.num_cut}


def write_scores(run_dir: Path, env_steps: int, result: EvaluationResult) -> None:
    """Writes every episode of the final evaluation to `evaluation_scores.csv`.

    Args:
      run_dir: run folder.
      env_steps: environment steps for which the evaluated agent was trained.
      result: scores and lengths of the episodes.
    """
    lines = [_csv_line(("env_steps", "episode", "score", "length"))]
    episodes = zip(result.scores.tolist(), result.lengths.tolist(), strict=True)
    lines += [_csv_line((env_steps, number, *episode)) for number, episode in enumerate(episodes)]
    write_text(run_dir / SCORES_FILE, "".join(lines))


class _AppendFile:
    """A text file of which the first `length` bytes are kept, and to which lines are appended.

    Every line is one unbuffered write: a killed process leaves at most a torn last line.
    """

    def __init__(self, path: Path, length: int):
        self._file = io.FileIO(str(path), "a", opener=lambda *_: open_own(path, os.O_APPEND))
        found = self._file.tell()
        if found < length:
            told = f"{found} bytes of it are left where the checkpoint was made after {length}"
            print(f"warning: {path} has lost lines: {told}.", file=sys.stderr)
        self._file.truncate(min(found, length))

    def append(self, text: str) -> None:
        """Writes a whole line, of which the system may take a part at a time on a full disk."""
        rest = text.encode()
        while rest:
            rest = rest[self._file.write(rest) :]

    def length(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _TensorBoard:
    """Writes events with tensorboardX; events after a resumed run's checkpoint are declared void.

    tensorboardX's `SummaryWriter` is not used, because errors of its thread would be lost.
    """

    def __init__(self, folder: Path, env_steps: int):
        import tensorboardX
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(exist_ok=True)
        self._make_event, self._scalar = Event, tensorboardX.summary.scalar
        # A file's name holds the second; the suffix keeps a quick restart from replacing a file.
        make_writer = tensorboardX.event_file_writer.EventsWriter
        self._writer = make_writer(str(folder / "events"), f".from{env_steps}")
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

    def close(self) -> None:
        self._writer.close()


_Sink = _TensorBoard | WandbSink


def _make_sinks(run_dir: Path, config: ExperimentConfig, env_steps: int) -> Iterator[_Sink]:
    """The sinks that the settings ask for; a sink that is not installed is told in one line."""
    makers: dict[str, Callable[[], _Sink]] = {
        "tensorboard": lambda: _TensorBoard(run_dir / TENSORBOARD_FOLDER, env_steps),
        "wandb": lambda: WandbSink(run_dir, config),
    }
    for name in [name for name in makers if getattr(config.logging, name)]:
        try:
            sink = makers[name]()
        except ModuleNotFoundError as error:
            told = f"logging.{name} is left out, the module {error.name!r} is not installed"
            print(f"notice: {told}: pip install 'muzero-jax[{name}]'.", file=sys.stderr)
        else:
            yield sink


def _csv_line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()

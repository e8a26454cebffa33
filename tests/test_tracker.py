"""Report files: lines, cuts, and the sinks beside them."""

import errno
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import tiny

from muzero_jax.tracking import tracker
from muzero_jax.tracking.tracker import (
    EVALUATION_COLUMNS,
    Tracker,
    summarise,
    write_scores,
)
from muzero_jax.training.evaluation import EvaluationResult

QUIET = tiny(logging__tensorboard=False)
ROW = dict.fromkeys(EVALUATION_COLUMNS, 1.5)


def _metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_metrics_lines_leave_out_what_is_not_finite(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, QUIET)
    tracker.write_metrics({"env_steps": 64, "loss/total": math.nan, "a": math.inf, "b": 0.5})
    tracker.close()
    assert _metrics(tmp_path) == [{"env_steps": 64, "b": 0.5}]


def test_files_are_cut_back_to_the_position(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, QUIET)
    tracker.write_metrics({"env_steps": 1})
    tracker.write_evaluation({**ROW, "env_steps": 1})
    position = tracker.position()
    tracker.write_metrics({"env_steps": 2})
    tracker.write_evaluation({**ROW, "env_steps": 2})
    tracker.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 3, "torn')
    resumed = Tracker(tmp_path, QUIET, position)
    assert resumed.position() == position
    resumed.write_metrics({"env_steps": 2, "again": 1})
    resumed.close()
    assert _metrics(tmp_path) == [{"env_steps": 1}, {"env_steps": 2, "again": 1}]
    lines = (tmp_path / "evaluation.csv").read_text().splitlines()
    assert lines == [",".join(EVALUATION_COLUMNS), "1" + ",1.5" * 9]


class _NarrowFile:
    """A disk that takes three bytes at a time, and then is full."""

    def __init__(self, room: int):
        self.room, self.content = room, b""

    def write(self, data: bytes) -> int:
        if len(self.content) >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.content += data[:3]
        return len(data[:3])


def test_a_line_that_the_disk_takes_in_parts_is_written_whole(tmp_path: Path) -> None:
    file = tracker._AppendFile(tmp_path / "a", 0)
    file.close()
    file._file = _NarrowFile(100)
    file.append("a line\n")
    assert file._file.content == b"a line\n"
    file._file = _NarrowFile(3)
    with pytest.raises(OSError, match="No space left"):
        file.append("a line\n")


def test_without_a_position_the_files_start_anew(tmp_path: Path) -> None:
    for steps in (1, 2):
        tracker = Tracker(tmp_path, QUIET)
        tracker.write_metrics({"env_steps": steps})
        tracker.close()
    assert _metrics(tmp_path) == [{"env_steps": 2}]
    assert (tmp_path / "evaluation.csv").read_text() == ",".join(EVALUATION_COLUMNS) + "\n"


def test_lost_lines_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker(tmp_path, QUIET)
    tracker.write_metrics({"env_steps": 1})
    position = tracker.position()
    tracker.close()
    (tmp_path / "metrics.jsonl").write_text("")
    Tracker(tmp_path, QUIET, position).close()
    assert "metrics.jsonl has lost lines: 0 bytes" in capsys.readouterr().err


def test_evaluation_summary_and_scores(tmp_path: Path) -> None:
    result = EvaluationResult(np.array([1.0, 3.0, -1.0]), np.array([4, 5, 9]))
    summary = summarise(result)
    assert summary["score_mean"] == 1.0
    assert summary["score_std"] == pytest.approx(math.sqrt(8 / 3))
    assert (summary["score_min"], summary["score_max"], summary["episodes"]) == (-1.0, 3.0, 3)
    assert (summary["length_mean"], summary["episodes_cut"]) == (6.0, 0)
    write_scores(tmp_path, 64, result)
    lines = (tmp_path / "evaluation_scores.csv").read_text().splitlines()
    assert lines == ["env_steps,episode,score,length", "64,0,1.0,4", "64,1,3.0,5", "64,2,-1.0,9"]


def test_tensorboard_events_of_a_resumed_run_void_the_later_ones(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    tracker = Tracker(tmp_path, tiny(), env_steps=0)
    tracker.write_metrics({"env_steps": 64, "loss/total": 0.25})
    position = tracker.position()
    tracker.close()
    Tracker(tmp_path, tiny(), position, env_steps=64).close()
    events = []
    for path in (tmp_path / "tensorboard").iterdir():
        content, start = path.read_bytes(), 0
        while start < len(content):
            # A record holds its length, the length's checksum, the bytes, and their checksum.
            size = int.from_bytes(content[start : start + 8], "little")
            events.append(Event.FromString(content[start + 12 : start + 12 + size]))
            start += 16 + size
    scalars = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert scalars == [(64, "loss/total", 0.25)]
    assert sorted(e.step for e in events if e.HasField("session_log")) == [1, 65]


def test_missing_tensorboard_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    tracker = Tracker(tmp_path, tiny())
    tracker.write_metrics({"env_steps": 64})
    tracker.close()
    told = capsys.readouterr().err
    assert "logging.tensorboard is left out" in told
    assert "pip install 'muzero-jax[tensorboard]'" in told
    assert told.count("\n") == 1

"""Boards of many short runs, whose lanes end runs as fast as the disk allows.

    python tests/busy_boards.py FOLDER NUM_BOARDS NUM_RUNS

prints `all ended` when all boards are through.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tiny_run import TINY

from muzero_jax.sweeps.board import Board
from muzero_jax.sweeps.definition import Member, make_members

RATE = "optimizer.learning_rate"


def members_of(num_runs: int) -> list[Member]:
    """So many settings with a seed each."""
    rates = [1e-3 * (number + 1) for number in range(num_runs)]
    return [m for n, rate in enumerate(rates) for m in make_members(TINY, n, {RATE: rate}, (0,))]


def pretend_to_run(board: Board, members: Sequence[Member], seconds: float) -> None:
    """Does what a lane does, but for the training."""
    for member in members:
        display = board.begin(member)
        display.metrics({"env_steps": member.config.total_env_steps})
        run_dir = board.folder / member.folder
        run_dir.mkdir(parents=True)
        # JSON is YAML, which is read slowly.
        settings = {"seed": 0, "optimizer": {"learning_rate": 1e-3 * (member.setting + 1)}}
        (run_dir / "config.yaml").write_text(json.dumps(settings))
        time.sleep(seconds)
        result = {"score_mean": float(member.setting), "score_std": 0.0, "train_seconds": seconds}
        (run_dir / "result.json").write_text(json.dumps(result))
        board.end([member])


def run_board(folder: Path, num_runs: int, seconds: float, num_lanes: int = 2) -> Board:
    """A board of so many runs, shared by lanes; returns when all is over."""
    folder.mkdir(parents=True)
    members = members_of(num_runs)
    board = Board(folder, [RATE], f"a sweep in {folder}", num_runs, TINY.total_env_steps)
    with board:
        board.expect(members)
        parts = [members[lane::num_lanes] for lane in range(num_lanes)]
        lanes = [
            threading.Thread(target=pretend_to_run, args=(board, part, seconds), daemon=True)
            for part in parts
        ]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        board.finish()
    return board


if __name__ == "__main__":
    for number in range(int(sys.argv[2])):
        run_board(Path(sys.argv[1]) / str(number), int(sys.argv[3]), 0.001)
    print("all ended")

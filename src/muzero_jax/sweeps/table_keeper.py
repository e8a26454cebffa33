"""Who reads the runs that are over and writes the sweep's table: a thread of its own."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.core.file_names import MEMBERS_FOLDER
from muzero_jax.reports.extras import MissingExtraError
from muzero_jax.reports.sweep_table import read_member, write_table
from muzero_jax.sweeps.block import is_over
from muzero_jax.sweeps.sweep_state import SweepState

# A sweep of many short runs must not spend its time on writing its whole table after each of them:
# after a writing that took a second the next one comes no earlier than after so many.
_REST = 20.0


class TableKeeper:
    """Reads each run that is over into the state, tells of it, and writes `table.csv`.

    The threads that run members only put names into its queue: they wait neither for the disk nor
    for each other. Runs are told of in the order in which they are counted.

    Args:
      folder: of the sweep.
      state: is told of the runs that are over.
      tell_end: is called with the row of each run that ends from now on; it must not wait.
      tell: is called with a line for people; it must not wait.
      is_shared: whether other processes run members of the sweep as well; then the whole folder is
        looked through, not only the runs that ended here.
    """

    def __init__(
        self,
        folder: Path,
        state: SweepState,
        tell_end: Callable[[Mapping[str, Any]], None],
        tell: Callable[[str], None],
        is_shared: bool = False,
    ):
        self.folder, self.state, self._is_shared = folder, state, is_shared
        self._tell_end, self._tell = tell_end, tell
        self._ended: queue.SimpleQueue[tuple[str, ...] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_complained = False

    def start(self) -> None:
        """Counts what earlier processes have done, without a line for each, and starts."""
        self._scan(tell_end=lambda row: None)
        self._write()
        self._thread = threading.Thread(target=self._work, name="table", daemon=True)
        self._thread.start()

    def look(self, names: Iterable[str] = ()) -> None:
        """Asks to look whether runs are over by now; returns at once.

        Args:
          names: folders of the runs that have ended here, within the sweep's.
        """
        self._ended.put(tuple(names))

    def close(self) -> None:
        """Returns when all that was asked for is done, and the thread has ended."""
        if self._thread is not None:
            self._ended.put(None)
            self._thread.join()
            self._thread = None

    def finish(self) -> None:
        """Closes, and writes the whole table, also as Parquet where that can be done.

        Raises:
          OSError: the table cannot be written, or a run cannot be read.
        """
        self.close()
        self._scan(self._tell_end)
        try:
            self._write(parquet=True)
        except MissingExtraError as error:
            self._tell(f"notice: there is no Parquet table. {error}")

    def _work(self) -> None:
        """What the thread does, until it is told to close."""
        is_stale, next_writing = False, 0.0
        while True:
            waiting = max(next_writing - time.monotonic(), 0.0) if is_stale else None
            try:
                names = self._ended.get(timeout=waiting)
            except queue.Empty:
                began = time.monotonic()
                self._guard(self._bring_up_to_date)
                is_stale, now = False, time.monotonic()
                next_writing = now + _REST * (now - began)
                continue
            if names is None:
                return
            for name in names:
                self._guard(lambda name=name: self._read(name, self._tell_end))  # type: ignore[misc]
            is_stale = True

    def _bring_up_to_date(self) -> None:
        if self._is_shared:
            self._scan(self._tell_end)
        self._write()

    def _guard(self, work: Callable[[], None]) -> None:
        """Calls `work`. What fails is told once, and tried again by `finish`, which raises it."""
        try:
            work()
        except Exception as error:
            if not self._has_complained:
                self._tell(f"warning: the table is behind: {type(error).__name__}: {error}")
            self._has_complained = True

    def _scan(self, tell_end: Callable[[Mapping[str, Any]], None]) -> None:
        """Reads all runs of the folder that are over and not counted yet."""
        for run_dir in sorted(self.folder.glob(f"{MEMBERS_FOLDER}/*/*")):
            name = str(run_dir.relative_to(self.folder))
            # A study's runs are made by other processes too; a sweep has those that it names.
            is_own = self._is_shared or self.state.expects(name)
            if is_own and not self.state.knows(name) and is_over(run_dir):
                self._read(name, tell_end)

    def _read(self, name: str, tell_end: Callable[[Mapping[str, Any]], None]) -> None:
        run_dir = self.folder / name
        row = read_member(run_dir) if is_over(run_dir) else None
        if self.state.settle(name, row) and row is not None:
            tell_end(row)

    def _write(self, parquet: bool = False) -> None:
        write_table(self.folder, self.state.rows(), self.state.varied, parquet=parquet)

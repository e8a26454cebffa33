"""Running a sweep or a study, or what is left of it, on the devices of this machine or with Ray."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

from muzero_jax.config import ConfigError
from muzero_jax.core.errors import InterruptedRunError
from muzero_jax.core.file_names import SWEEP_FILE
from muzero_jax.process.jax_process import prepare_devices
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.sweeps.block import is_over
from muzero_jax.sweeps.definition import Study, Sweep, group_members
from muzero_jax.sweeps.ray_cluster import RayCluster
from muzero_jax.sweeps.sweep_folder import load_sweep, opened_sweep
from muzero_jax.sweeps.sweep_progress import Stop, SweepProgress, stoppable
from muzero_jax.sweeps.trials import import_optuna
from muzero_jax.sweeps.workers import Worker, make_work, memory_share
from muzero_jax.tracking.wandb_sink import check_login


def run_sweep(
    sweep: Sweep | Study,
    folder: Path,
    *,
    num_devices: int = 0,
    width: int = 0,
    ray_address: str = "",
) -> dict[str, int]:
    """Runs a sweep or a study, or what is left of it; its table lies in the folder.

    Args:
      sweep: what to run.
      folder: the sweep's folder: new, empty, or one that holds this very sweep, which is continued.
      num_devices: how many devices of this machine work on the sweep; all where 0.
      width: how many runs a program advances at once; 0 chooses it, see `size_programs`.
      ray_address: address of the Ray cluster whose devices work on the sweep: `auto` finds the
        cluster of this machine, `local` starts one. This machine's own devices where empty.

    Returns:
      How many runs are finished, failed and so on; for a study over all processes.

    Raises:
      ConfigError: a setting or an environment cannot work, the folder holds something else, a
        library is missing, or no cluster answers; nothing is started or left behind.
      RunLockedError: another process works on this sweep or deterministic study.
      InterruptedRunError: the sweep was stopped; everything is saved.
    """
    if isinstance(sweep, Study) and not ray_address:
        import_optuna()  # With Ray only the workers need it.
    elif isinstance(sweep, Study) and sweep.is_deterministic:
        raise ConfigError(
            "a deterministic study is run by one process, with the devices of its machine; leave "
            "out --ray or --deterministic."
        )
    configs = [group[0].config for group in group_members(sweep.members())] or [sweep.base]
    check_login(configs)
    if ray_address:
        with RayCluster(ray_address) as cluster:
            for config in configs:
                build(config)
            make_workers = functools.partial(cluster.make_workers, sweep, folder, width)
            return _run(sweep, folder, str(cluster), make_workers)
    devices = prepare_devices(num_devices)
    for config in configs:
        experiment = build(config)
        if isinstance(sweep, Sweep):  # Raises where a run does not fit the device.
            Programs(experiment, memory_bytes=memory_share(devices[0], len(devices)))
    if isinstance(sweep, Study) and sweep.is_deterministic and not sweep.round_size:
        held = load_sweep(folder) if (folder / SWEEP_FILE).exists() else None
        size = held.round_size if isinstance(held, Study) else 0
        sweep = dataclasses.replace(sweep, round_size=size or len(devices))

    def make_local(progress: SweepProgress, stop: Stop) -> list[Callable[[], None]]:
        work = make_work(sweep, folder, len(devices), stop)
        workers = [Worker(work, d, len(devices), width, progress, stop) for d in devices]
        return [worker.run for worker in workers]

    return _run(sweep, folder, f"{len(devices)} x {devices[0].device_kind}", make_local)


def _run(
    sweep: Sweep | Study,
    folder: Path,
    where: str,
    make_workers: Callable[[SweepProgress, Stop], list[Callable[[], None]]],
) -> dict[str, int]:
    """Runs a sweep by functions that each work in a thread of its own until nothing is left."""
    members = sweep.members()
    groups = len(group_members(members))
    what = f"{groups} compiled groups" if groups else "a study"
    seeds = len(sweep.seeds)
    told = f"{sweep.experiment}: {sweep.num_runs // seeds} settings, {seeds} seeds, {what}"
    progress = SweepProgress(folder, sweep, f"{told}, on {where}: {folder}")
    with opened_sweep(folder, sweep), progress.shown(), stoppable(progress) as stop:
        run_in_threads(make_workers(progress, stop), stop)
        for member in members:
            if not is_over(folder / member.folder):
                told = f"another process is writing the run folder {folder / member.folder}."
                progress.note(f"{member.title}: {told} It is passed over.")
    return progress.counts()


def run_in_threads(functions: Sequence[Callable[[], None]], stop: Stop) -> None:
    """Calls each function in a thread of its own, and waits; `stop` is aborted where one raises.

    Raises:
      Exception: whatever the first of them raised; a stop only if there was nothing worse.
    """
    with futures.ThreadPoolExecutor(len(functions), thread_name_prefix="worker") as pool:
        calls = [pool.submit(function) for function in functions]
        ended, _ = futures.wait(calls, return_when=futures.FIRST_EXCEPTION)
        stop.is_aborted = any(one.exception() is not None for one in ended)
    errors = [error for one in calls if (error := one.exception()) is not None]
    errors.sort(key=lambda error: isinstance(error, InterruptedRunError))
    for error in errors:
        raise error

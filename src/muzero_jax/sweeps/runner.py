"""Running a sweep or a study, or what is left of it, on the devices of this machine or with Ray."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax

from muzero_jax.config import ConfigError
from muzero_jax.core.errors import InterruptedRunError
from muzero_jax.core.file_names import SWEEP_FILE
from muzero_jax.process.jax_process import prepare_devices
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.sweeps.claims import Locks
from muzero_jax.sweeps.definition import Member, Study, Sweep, group_members
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

    Other processes may work on the same study, unless it is deterministic.

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
        sweep = dataclasses.replace(sweep, round_size=_round_size(folder) or len(devices))
    where = f"{len(devices)} x {devices[0].device_kind}"
    make_workers = functools.partial(_workers, sweep, folder, devices, width)
    return _run(sweep, folder, where, make_workers)


def _round_size(folder: Path) -> int:
    """How many trials a round has in the study that the folder holds; 0 where nothing says it."""
    held = load_sweep(folder) if (folder / SWEEP_FILE).exists() else None
    return held.round_size if isinstance(held, Study) else 0


def _workers(
    sweep: Sweep | Study,
    folder: Path,
    devices: Sequence[jax.Device],
    width: int,
    progress: SweepProgress,
    stop: Stop,
) -> list[Callable[[], None]]:
    """What each device of this machine does; see `_run` and `workers.Worker`."""
    work = make_work(sweep, Locks(folder), len(devices), progress, stop)
    shares = [(device, memory_share(device, len(devices))) for device in devices]
    return [Worker(work, device, share, width, progress, stop).run for device, share in shares]


def _run(
    sweep: Sweep | Study,
    folder: Path,
    where: str,
    make_workers: Callable[[SweepProgress, Stop], list[Callable[[], None]]],
) -> dict[str, int]:
    """Lets workers run a sweep, shows how far it is, and keeps its table.

    `make_workers` makes functions that work until nothing is left, each for a thread of its own.
    """
    groups = group_members(sweep.members())
    told = f", {len(groups)} compiled groups" if groups else ""
    progress = SweepProgress(folder, sweep, f"{sweep.describe()}{told}, on {where}: {folder}")
    with opened_sweep(folder, sweep), progress.shown(), stoppable(progress) as stop:
        run_in_threads(make_workers(progress, stop), stop)
        while _is_left(sweep.members(), folder, progress):
            run_in_threads(make_workers(progress, stop), stop)
    return progress.counts()


def _is_left(members: Sequence[Member], folder: Path, progress: SweepProgress) -> bool:
    """Whether there is a run that nobody works on; tells of the runs of other processes.

    Workers leave a group to another worker where helping does not pay. If that was no worker but a
    process such as `muzero train --resume`, runs are left.
    """
    locks, held = Locks(folder), []
    for member in members:
        state = locks.claim(member)
        if state == "claimed":
            locks.release(member)
            return True
        held += [member] if state == "held" else []
    for member in held:
        told = f"another process is writing the run folder {folder / member.folder}."
        progress.note(f"{member.title}: {told} It is passed over.")
    return False


def run_in_threads(functions: Sequence[Callable[[], None]], stop: Stop) -> None:
    """Calls each function in a thread of its own, and waits for all.

    Args:
      functions: each returns when nothing is left to do, or raises.
      stop: is aborted when one function raises, so that the others stop as well.

    Raises:
      Exception: whatever the first of them raised; a stop only if there was nothing worse.
    """

    def call(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException:
            stop.is_aborted = True
            raise

    with ThreadPoolExecutor(len(functions), thread_name_prefix="worker") as pool:
        calls = [pool.submit(call, function) for function in functions]
        errors = [error for one in calls if (error := one.exception()) is not None]
    errors.sort(key=lambda error: isinstance(error, InterruptedRunError))
    for error in errors:
        raise error

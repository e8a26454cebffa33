"""The folder of a sweep or a study: what it holds, and whether it holds what is asked for."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.config import ConfigError
from muzero_jax.core.dotted import describe_setting, flatten
from muzero_jax.core.file_names import SWEEP_FILE
from muzero_jax.core.files import refuse_links, write_text
from muzero_jax.core.plain_yaml import dump_yaml
from muzero_jax.core.trust import admit, code_references, seal_folder
from muzero_jax.reports.sweep_table import usable_sweep_file
from muzero_jax.runs.run_folder import locked, occupied
from muzero_jax.settings import config_from_dict
from muzero_jax.sweeps.definition import Study, Sweep
from muzero_jax.sweeps.search_space import make_axis


def load_sweep(folder: Path) -> Sweep | Study:
    """Reads what a folder holds, to run it.

    Raises:
      ConfigError: the folder is no sweep folder, or its `sweep.yaml` was damaged.
      UntrustedCodeError: the file names code that this user has not sealed.
    """
    with usable_sweep_file(folder) as tree:
        admit(folder, references_of(tree))
        return sweep_from_dict(tree)


def references_of(tree: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of code outside this package in the content of a sweep's file."""
    return code_references([tree.get("base"), tree.get("settings"), tree.get("space")])


@contextlib.contextmanager
def opened_sweep(folder: Path, sweep: Sweep | Study) -> Iterator[None]:
    """Makes the folder, or finds the same sweep there.

    One process writes a sweep or a deterministic study, and holds its lock; any number of processes
    write any other study.

    Raises:
      ConfigError: the folder holds something else, or cannot be made.
      RunLockedError: another process writes this sweep or deterministic study.
    """
    path = folder / SWEEP_FILE
    if path.exists():
        _check_same(folder, sweep)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_used = occupied(folder) and not path.exists()
    except OSError as error:
        raise ConfigError(f"the folder {folder} cannot be made: {error.strerror}.") from error
    if is_used:
        raise ConfigError(f"{folder} is not empty, and holds no sweep; give another --out.")
    has_one_writer = isinstance(sweep, Sweep) or sweep.is_deterministic
    if not has_one_writer:
        refuse_links(folder)  # As `locked` does for one process.
    tree = sweep.to_dict()
    with locked(folder) if has_one_writer else contextlib.nullcontext():
        seal_folder(folder, references_of(tree))
        write_text(path, dump_yaml(tree))
        yield


def sweep_from_dict(tree: Mapping[str, Any]) -> Sweep | Study:
    """The sweep or study that `to_dict` has turned into plain data."""
    kind = ("space", "trials", "pruner", "sample_seed") if "study" in tree else ("settings",)
    for name in ("seeds", "base", "changed", *kind):
        if name not in tree:
            raise ConfigError(f"{name} is missing.")
    shared = {name: tree[name] for name in ("experiment", "changed")}
    base, shared["seeds"] = config_from_dict(tree["base"]), tuple(tree["seeds"])
    if "study" not in tree:
        settings = tuple(flatten(setting) for setting in tree["settings"])
        return Sweep(**shared, base=base, settings=settings)
    return Study(
        **shared,
        base=base,
        name=tree["study"],
        space=tuple(make_axis(base, name, values) for name, values in tree["space"].items()),
        num_trials=tree["trials"],
        pruner=tree["pruner"],
        sample_seed=tree["sample_seed"],
        is_deterministic=tree.get("deterministic", False),
        round_size=tree.get("round_size", 0),
    )


def _check_same(folder: Path, asked: Sweep | Study) -> None:
    before, now = _parts(load_sweep(folder)), _parts(asked)
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if old != new and name != "trials":  # More trials of the same study may be asked for.
            raise ConfigError(
                f"{folder} holds another sweep: {name} is {_told(old)}, asked for {_told(new)}; "
                f"continue that one with --resume {folder}, or give another --out."
            )


def _parts(sweep: Sweep | Study) -> dict[str, Any]:
    """What two definitions of the same sweep agree in, by names for people."""
    tree = sweep.to_dict()
    base, settings = tree.pop("base"), enumerate(tree.pop("settings", ()))
    return {**tree, **flatten(base), **{f"setting {number}": one for number, one in settings}}


def _told(value: Any) -> Any:
    return describe_setting(value) if value and isinstance(value, Mapping) else value or "none"

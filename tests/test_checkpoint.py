"""Checkpoints: what is saved comes back bit for bit, and damage never goes unnoticed."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.checkpoints import checkpoint
from muzero_jax.checkpoints.checkpoint import CheckpointWriter, restore
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, half_written, set_aside
from muzero_jax.core.errors import (
    CheckpointMismatchError,
    NoCheckpointError,
    RunError,
)

RECORD = {"counters": {"env_steps": 5, "train_seconds": 0.1}, "name": "x"}


def _groups(scale: float) -> dict[str, Any]:
    """One leaf of every kind that a state may hold."""
    return {
        "agent": {
            "kernel": scale * jax.random.normal(jax.random.key(1), (64, 64)),
            "half": jnp.full((3,), scale, jnp.bfloat16),
            "count": jnp.asarray(7, jnp.int32),
            "nothing": None,
        },
        "loop": (
            jax.random.key(int(scale)),
            jax.random.split(jax.random.key(2), 3),
            jnp.array([True, False]),
            jnp.arange(5, dtype=jnp.uint8),
            jnp.zeros((0, 3)),
            jnp.array([jnp.nan, -0.0, jnp.inf]),
        ),
        "replay": (),
    }


SHAPES = jax.eval_shape(lambda: _groups(1.0))


def _write(folder: Path, steps: dict[int, float], num_kept: int = 3) -> None:
    writer = CheckpointWriter(folder, num_kept)
    for step, scale in steps.items():
        writer.save(step, _groups(scale), RECORD)
    writer.close()


def _assert_same(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for left, right in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert left.dtype == right.dtype
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


def test_round_trip_is_exact_and_free_of_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, {3: 2.0})

    def refuse(*_: object) -> None:
        raise AssertionError("a checkpoint must not be unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    restored = restore(tmp_path, SHAPES)
    _assert_same(restored.groups, _groups(2.0))
    assert (restored.step, restored.record) == (3, RECORD)


def test_restored_state_does_not_recompile(tmp_path: Path) -> None:
    compiled = jax.jit(lambda groups: groups["agent"]["kernel"] * 2).lower(SHAPES).compile()
    _write(tmp_path, {1: 2.0})
    restored = restore(tmp_path, SHAPES).groups
    np.testing.assert_array_equal(compiled(restored), compiled(_groups(2.0)))


def test_groups_can_be_read_alone(tmp_path: Path) -> None:
    _write(tmp_path, {3: 2.0})
    restored = restore(tmp_path, {"agent": SHAPES["agent"]})
    _assert_same(restored.groups, {"agent": _groups(2.0)["agent"]})


def test_old_checkpoints_are_removed(tmp_path: Path) -> None:
    _write(tmp_path, {1: 1.0, 2: 2.0, 3: 3.0, 10: 4.0}, num_kept=2)
    assert checkpoint_steps(tmp_path) == [3, 10]
    _assert_same(restore(tmp_path, SHAPES).groups, _groups(4.0))


def test_a_checkpoint_before_the_newest_is_refused_aloud(tmp_path: Path) -> None:
    """Orbax itself ignores such a checkpoint in silence."""
    with pytest.raises(RunError, match=r"checkpoint 2 was not saved in .* which holds 3; move"):
        _write(tmp_path, {3: 1.0, 2: 2.0})
    assert checkpoint_steps(tmp_path) == [3]


def test_only_plain_numbers_are_checkpoints(tmp_path: Path) -> None:
    for name in ("128", "0", "²", "٣", "007", "12.tmp", "-1", "٣.orbax-checkpoint-tmp"):
        (tmp_path / name).mkdir()
    assert checkpoint_steps(tmp_path) == [0, 128]
    assert half_written(tmp_path, newer_than=-1) == [12]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _largest(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize("damage", [_flip, _truncate, Path.unlink])
@pytest.mark.parametrize("part", ["agent", "record"])
def test_damaged_newest_is_named_and_the_previous_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: Any, part: str
) -> None:
    _write(tmp_path, {1: 1.0, 2: 2.0})
    damage(_largest(tmp_path / "2" / part))
    restored = restore(tmp_path, SHAPES)
    assert restored.step == 1
    _assert_same(restored.groups, _groups(1.0))
    told = capfd.readouterr().err
    assert told.startswith("warning: checkpoint 2 is damaged (")
    assert told.endswith("using checkpoint 1.\n")
    assert told.count("\n") == 1


def test_every_flipped_byte_of_the_arrays_is_noticed(tmp_path: Path) -> None:
    _write(tmp_path, {1: 1.0, 2: 2.0})
    path = _largest(tmp_path / "2" / "agent")
    content = path.read_bytes()
    for position in range(0, len(content), len(content) // 10):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        restored = restore(tmp_path, SHAPES)
        # If nothing reads the flipped byte, the restored arrays must be the saved ones.
        _assert_same(restored.groups, _groups(2.0 if restored.step == 2 else 1.0))


def test_arrays_of_another_checkpoint_are_noticed(tmp_path: Path) -> None:
    _write(tmp_path, {1: 1.0, 2: 2.0})
    shutil.rmtree(tmp_path / "2" / "agent")
    shutil.copytree(tmp_path / "1" / "agent", tmp_path / "2" / "agent")
    assert restore(tmp_path, SHAPES).step == 1


def test_a_changed_number_in_the_record_is_noticed(tmp_path: Path) -> None:
    _write(tmp_path, {1: 1.0, 2: 2.0})
    path = tmp_path / "2" / "record" / "metadata"
    text = path.read_text()
    assert '"env_steps": 5' in text
    path.write_text(text.replace('"env_steps": 5', '"env_steps": 6'))
    assert restore(tmp_path, SHAPES).step == 1


def test_half_written_newest_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, {1: 1.0})
    (tmp_path / "2.orbax-checkpoint-tmp-0").mkdir()
    assert restore(tmp_path, SHAPES).step == 1
    assert capsys.readouterr().err == (
        "warning: checkpoint 2 is half-written; using checkpoint 1.\n"
    )


def test_no_usable_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpointError, match="there is none"):
        restore(tmp_path / "missing", SHAPES)
    _write(tmp_path, {1: 1.0})
    _flip(_largest(tmp_path / "1" / "record"))
    with pytest.raises(NoCheckpointError, match="checkpoint 1 is damaged"):
        restore(tmp_path, SHAPES)


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ({"kernel": (64, 32)}, r"kernel was saved as float32\[64, 64\], and float32\[64, 32\] is"),
        ({"more": (3,)}, r"more was saved as nothing, and float32\[3\] is needed"),
    ],
)
def test_other_shapes_are_named_and_are_no_damage(
    tmp_path: Path, agent: dict[str, Any], told: str
) -> None:
    _write(tmp_path, {1: 1.0, 2: 1.0})
    shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in agent.items()}
    with pytest.raises(CheckpointMismatchError, match=f"checkpoint 2 in .*{told}") as error:
        restore(tmp_path, {"agent": SHAPES["agent"] | shapes})
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_an_earlier_version_is_one_sentence(tmp_path: Path) -> None:
    """Records were first sealed without the shapes of the arrays."""
    _write(tmp_path, {1: 1.0})
    path = tmp_path / "1" / "record" / "metadata"
    sealed = {key: x for key, x in json.loads(path.read_text()).items() if key != "shapes"}
    del sealed["digest"]
    path.write_text(json.dumps({**sealed, "digest": checkpoint._json_digest(sealed)}))
    with pytest.raises(NoCheckpointError, match="checkpoint 1 is damaged") as error:
        restore(tmp_path, SHAPES)
    assert "\n" not in str(error.value)


def test_a_checkpoint_under_another_number_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, {5: 1.0})
    assert restore(tmp_path, SHAPES).step == 5
    shutil.copytree(tmp_path / "5", tmp_path / "6")
    assert restore(tmp_path, SHAPES).step == 5
    told = "checkpoint 6 is damaged (it was saved as checkpoint 5); using checkpoint 5"
    assert told in capsys.readouterr().err
    shutil.rmtree(tmp_path / "5")
    with pytest.raises(NoCheckpointError, match="it was saved as checkpoint 5"):
        restore(tmp_path, SHAPES)


def test_one_checkpoint_can_be_asked_for(tmp_path: Path) -> None:
    _write(tmp_path, {1: 1.0, 2: 2.0})
    _assert_same(restore(tmp_path, SHAPES, steps=[1]).groups, _groups(1.0))
    with pytest.raises(NoCheckpointError, match="can be used: there is none"):
        restore(tmp_path, SHAPES, steps=[3])
    _truncate(_largest(tmp_path / "2" / "agent"))
    with pytest.raises(NoCheckpointError, match=r"can be used: checkpoint 2 is damaged"):
        restore(tmp_path, SHAPES, steps=[2])


def test_groups_that_are_optional_may_be_missing(tmp_path: Path) -> None:
    _write(tmp_path, {1: 1.0})
    shapes = {"agent": SHAPES["agent"]}
    optional = {"loop": SHAPES["loop"], "best": SHAPES["agent"]}
    assert set(restore(tmp_path, shapes, optional=optional).groups) == {"agent", "loop"}


def test_damaged_checkpoints_make_room(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    _write(folder, {1: 1.0, 2: 2.0})
    _truncate(_largest(folder / "2" / "agent"))
    assert restore(folder, SHAPES).step == 1
    set_aside(folder, [2])
    assert (tmp_path / "damaged" / "2").is_dir()
    _write(folder, {2: 5.0})
    _assert_same(restore(folder, SHAPES).groups, _groups(5.0))

"""The compiled functions of a run, or of several side by side, on one device."""

import contextlib
import functools
import threading
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from muzero_jax.config import ExperimentConfig, traced_settings
from muzero_jax.core.keys import run_keys
from muzero_jax.core.types import Metrics, PyTree
from muzero_jax.runs import multihost
from muzero_jax.runs.build import Experiment
from muzero_jax.runs.memory import (
    ProgramMemory,
    check_program_fits,
    check_state_fits,
    device_memory_bytes,
    program_memory,
)
from muzero_jax.training.evaluation import Evaluate
from muzero_jax.training.train_state import TrainState

ItemT = TypeVar("ItemT")


class Programs:
    """What one device needs to work on runs that differ in seeds and traced settings only.

    Args:
      experiment: the parts of any of the runs.
      width: runs in one call, vmapped. The states of one run alone have no axis for it.
      device: JAX's default device where None.
      memory_bytes: memory that they may use; all of the device's where None.

    Attributes:
      experiment: the parts of any of the runs.
      width: runs in one call.
      device: what they are worked on; None for JAX's default device.
      evaluate: the greedy evaluation of `width` runs.
      shapes: shapes of the training state of one run, with the places of its arrays.
      whole_shapes: the same without places: as a checkpoint is read.
      memory: memory of the compiled chunk; None before `compile`, and where a device does not tell.

    Raises (when constructed):
      DoesNotFitError: the states are larger than the device's memory; nothing is allocated yet.
    """

    def __init__(
        self,
        experiment: Experiment,
        width: int = 1,
        device: jax.Device | None = None,
        memory_bytes: int | None = None,
    ):
        self.experiment, self.width, self.device = experiment, width, device
        self.shapes: TrainState = jax.eval_shape(experiment.train.init, run_keys(0)[0])
        self.whole_shapes = self.shapes
        if experiment.layout is not None:
            self.shapes = experiment.layout.place(self.shapes)
        self.memory: ProgramMemory | None = None
        self.evaluate = Evaluate(
            experiment.env,
            experiment.agent,
            experiment.config.evaluation,
            width,
            experiment.observers,
        )
        self.memory_bytes = memory_bytes or device_memory_bytes(device or jax.local_devices()[0])
        num_devices = 1 if experiment.layout is None else len(experiment.layout.devices)
        check_state_fits(experiment.config, self.shapes, self.memory_bytes * num_devices)
        self._train_chunk: Any = None
        self._init: Any = None

    def compile(self) -> None:
        """Compiles the chunk unless that is done.

        Raises:
          DoesNotFitError: the program needs more memory than there is; it is not run.
        """
        if self._train_chunk is not None:
            return
        train = self.experiment.train
        with jax.default_device(self.device):
            chunk = jax.jit(self._wide(train.train_chunk), donate_argnums=0)
            compiled = chunk.lower(self._wide_shapes(self.shapes)).compile()
        self.memory = program_memory(compiled)
        check_program_fits(self.memory, self.memory_bytes)
        self._train_chunk, self._init = compiled, jax.jit(self._wide(train.init))

    def compile_evaluation(self) -> None:
        """Compiles the evaluation in a thread, beside the first chunks, which need no host.

        What goes wrong there goes wrong again, and is told, when the evaluation is called.
        """

        def prepare() -> None:
            with jax.default_device(self.device), contextlib.suppress(Exception):
                self.evaluate.prepare(self._wide_shapes(self.whole_shapes.agent))

        threading.Thread(target=prepare, name="compile the evaluation").start()

    def init(self, configs: Sequence[ExperimentConfig]) -> TrainState:
        """The first states of at most `width` runs, side by side; compile the chunk before."""
        keys = self.fill([run_keys(config.seed)[0] for config in configs])
        settings = self.fill([traced_settings(config) for config in configs])
        state: TrainState
        if self.width == 1:
            state = self._init(keys[0], jax.tree.map(jnp.float32, settings[0]))
        else:
            columns = {name: jnp.array([s[name] for s in settings]) for name in settings[0]}
            state = self._init(jnp.stack(keys), columns)
        return state

    def train_chunk(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One chunk of all runs; the state is donated."""
        output: tuple[TrainState, Metrics] = self._train_chunk(state)
        return output

    def agents(self, state: TrainState) -> PyTree:
        """The agents of a state, on one device."""
        if self.experiment.layout is None:
            return state.agent
        # All devices hold the same; the evaluation is for one.
        return jax.tree.map(lambda x: x.addressable_data(0), state.agent)

    def join(self, states: Sequence[TrainState]) -> TrainState:
        """Puts the states of at most `width` runs side by side, where they belong."""
        if self.experiment.layout is not None:
            return multihost.distribute(states[0], self.shapes)
        return states[0] if self.width == 1 else jax.tree.map(_stack, *self.fill(states))

    def take(self, tree: PyTree, place: int) -> PyTree:
        """The part of the run at `place` in what `train_chunk` gives."""
        return tree if self.width == 1 else jax.tree.map(lambda x: x[place], tree)

    def fill(self, items: Sequence[ItemT]) -> list[ItemT]:
        """Repeats the last of the items until there are `width`."""
        return [*items, *[items[-1]] * (self.width - len(items))]

    def _wide(self, function: Any) -> Any:
        return function if self.width == 1 else jax.vmap(function)

    def _wide_shapes(self, shapes: PyTree) -> PyTree:
        if self.width == 1:
            return shapes
        return jax.tree.map(functools.partial(_with_leading_axis, size=self.width), shapes)


def _stack(*arrays: jax.Array) -> jax.Array:
    return jnp.stack(arrays)


def _with_leading_axis(x: jax.ShapeDtypeStruct, size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size, *x.shape), x.dtype)

"""The compiled functions of a run, or of several side by side, on one device."""

import contextlib
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
      evaluate: the greedy evaluation of `width` runs.
      shapes: shapes of the training state of one run, with the places of its arrays.
      whole_shapes: the same without places: as a checkpoint is read.
      memory: memory of the compiled chunk; None before `compile`, and where a device does not tell.

    Raises:
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
        self.whole_shapes, num_devices = self.shapes, 1
        if experiment.layout is not None:
            self.shapes = experiment.layout.place(self.shapes)
            num_devices = len(experiment.layout.devices)
        self.memory: ProgramMemory | None = None
        config = experiment.config
        self.evaluate = Evaluate(
            experiment.env, experiment.agent, config.evaluation, width, experiment.observers
        )
        self.memory_bytes = memory_bytes or device_memory_bytes(device or jax.local_devices()[0])
        check_state_fits(config, self.shapes, self.memory_bytes * num_devices)
        self._train_chunk: Any = None
        self._init: Any = jax.jit(self._wide(experiment.train.init))

    def compile(self) -> None:
        """Compiles the chunk unless that is done.

        Raises:
          DoesNotFitError: the program needs more memory than there is; it is not run.
        """
        if self._train_chunk is not None:
            return
        with jax.default_device(self.device):
            chunk = jax.jit(self._wide(self.experiment.train.train_chunk), donate_argnums=0)
            compiled = chunk.lower(self._wide_shapes(self.shapes)).compile()
        self.memory = program_memory(compiled)
        check_program_fits(self.memory, self.memory_bytes)
        self._train_chunk = compiled

    def compile_evaluation(self) -> None:
        """Compiles the evaluation in a thread, beside the first chunks, which need no host.

        What goes wrong there goes wrong again, and is told, when the evaluation is called.
        """

        def prepare() -> None:
            with jax.default_device(self.device), contextlib.suppress(Exception):
                self.evaluate.prepare(self._wide_shapes(self.whole_shapes.agent))

        threading.Thread(target=prepare, name="compile the evaluation").start()

    def init(self, configs: Sequence[ExperimentConfig]) -> TrainState:
        """The first states of at most `width` runs, side by side."""
        keys = self.beside([run_keys(config.seed)[0] for config in configs])
        state: TrainState = self._init(
            keys, self.beside([jax.tree.map(jnp.float32, traced_settings(c)) for c in configs])
        )
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

    def unaveraged(self, agents: PyTree) -> PyTree:
        """The agents, with their last parameters in the place of averages, if they average."""
        unaveraged = self.experiment.agent.unaveraged
        return agents if unaveraged is None else self._wide(unaveraged)(agents)

    def join(self, states: Sequence[TrainState]) -> TrainState:
        """Puts the states of at most `width` runs side by side, where they belong."""
        if self.experiment.layout is not None:
            return multihost.distribute(states[0], self.shapes)
        joined: TrainState = self.beside(states)
        return joined

    def take(self, tree: PyTree, place: int) -> PyTree:
        """The part of the run at `place` in what `train_chunk` gives."""
        return tree if self.width == 1 else jax.tree.map(lambda x: x[place], tree)

    def fill(self, items: Sequence[ItemT]) -> list[ItemT]:
        """Repeats the last of the items until there are `width`."""
        return [*items, *[items[-1]] * (self.width - len(items))]

    def beside(self, trees: Sequence[PyTree]) -> PyTree:
        """Stacks the trees of at most `width` runs; the tree of one run alone has no such axis."""
        if self.width == 1:
            return trees[0]
        return jax.tree.map(lambda *arrays: jnp.stack(arrays), *self.fill(trees))

    def _wide(self, function: Any) -> Any:
        return function if self.width == 1 else jax.vmap(function)

    def _wide_shapes(self, shapes: PyTree) -> PyTree:
        def wide(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((self.width, *x.shape), x.dtype)

        return shapes if self.width == 1 else jax.tree.map(wide, shapes)

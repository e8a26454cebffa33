"""What a search is measured on: the network of a trained run, or a toy network.

What a search costs depends on how deep its trees grow. A fresh network with zero heads grows flat
ones and under-states the cost several times; and where the latent shrinks from step to step, so do
the differences between values and priors. The latent of the toy network has unit root mean square
at every depth, and its trees are as deep as those of trained networks.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.agents.muzero.agent import make_muzero_model
from muzero_jax.agents.muzero.planning import NetworkSearchModel
from muzero_jax.config import ConfigError, MuZeroSettings, SearchConfig
from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.profiling.loop_cost import random_step
from muzero_jax.runs.build import LoadedRun
from muzero_jax.search.policies import (
    RecurrentFn,
    RecurrentFnOutput,
    RootFnOutput,
    SearchNoise,
    SearchOutput,
    make_search,
)

Weights = dict[str, Array]

PRIORS = {"flat": 1.0, "sharp": 6.0}
# Weights with deep trees: a Gumbel search of 200 simulations among 4 actions goes 28 levels deep on
# average and 72 at the deepest, and a PUCT search with a sharp prior 89 and 188.
TOY_SEED = 6
# The value of a task that costs something at every step, so that a longer path looks better.
STEP_COSTS = -16.0
# Random steps before a run's observations are taken, so that they are not all those of a reset.
_NUM_STEPS = 20


@dataclasses.dataclass(frozen=True)
class SearchCell:
    """One search to measure.

    Attributes:
      batch: roots.
      num_simulations: N.
      num_actions: A.
      embedding: size of the toy network's embedding and layers; 0 for a trained run's network.
      prior: the prior of the toy network, "flat" or "sharp"; or the name of a trained run.
      policy: "gumbel" or "muzero".
    """

    batch: int
    num_simulations: int
    num_actions: int
    embedding: int
    prior: str
    policy: str

    def __str__(self) -> str:
        return (
            f"{self.policy} B={self.batch} N={self.num_simulations} A={self.num_actions} "
            f"E={self.embedding or 'run'} {self.prior}"
        )


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is searched: a network and the roots.

    Attributes:
      cell: the search to measure.
      params: the parameters of the network.
      root: `(prior_logits [B, A], value [B], embedding [B, ...])`.
      recurrent_fn: the model.
      legal_action_mask: `[B, A]` bool.
      config: the settings of the search that the cell does not change.
    """

    cell: SearchCell
    params: Params
    root: RootFnOutput
    recurrent_fn: RecurrentFn
    legal_action_mask: Array
    config: SearchConfig

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments of a search."""
        return self.params, jax.random.key(0), self.root, self.legal_action_mask

    def search(self, engine: str, *, keeps_tree: bool = False) -> Callable[..., SearchOutput]:
        """The search by one engine, as a function of `args`; agents do not keep the tree."""
        cell, config = self.cell, self.config
        changes: dict[str, Any] = {"engine": engine, "policy": cell.policy}
        changes["num_simulations"] = cell.num_simulations
        run = make_search(dataclasses.replace(config, **changes))
        noise = SearchNoise(1.0, config.dirichlet_alpha, config.dirichlet_fraction, 1.0)

        def search(
            params: Params, rng_key: PRNGKey, root: RootFnOutput, legal: Array
        ) -> SearchOutput:
            output = run(params, rng_key, root, self.recurrent_fn, legal, noise)
            return output if keeps_tree else output.replace(tree=None)

        return search


def toy_workload(cell: SearchCell, seed: int = TOY_SEED) -> Workload:
    """The toy network with random roots, searched as mctx does by default."""
    network = ToyNetwork(cell.num_actions, cell.embedding, PRIORS[cell.prior])
    init_key, root_key = jax.random.split(jax.random.key(seed))
    weights = network.init(init_key)
    return Workload(
        cell=cell,
        params=weights,
        root=network.root(weights, root_key, cell.batch),
        recurrent_fn=network.recurrent_fn,
        legal_action_mask=jnp.ones((cell.batch, cell.num_actions), bool),
        config=SearchConfig(min_qvalue_range=1e-8),
    )


def trained_workload(run: LoadedRun, cell: SearchCell) -> Workload:
    """The network of a run, with roots at observations of as many episodes under random actions.

    Raises:
      ConfigError: the run's agent is not muzero.
    """
    learner, state = run.config.learner, run.agent_state
    if not isinstance(learner, MuZeroSettings):
        raise ConfigError(
            f"{run.config.name} is a run of the agent {run.config.agent}; searches are timed with "
            "the networks of muzero."
        )
    model = NetworkSearchModel(make_muzero_model(learner, run.env.spec))
    env = Vectorised(AutoReset(run.env), cell.batch)
    reset_key, steps_key = jax.random.split(jax.random.key(0))
    keys = jax.random.split(steps_key, _NUM_STEPS)
    play = jax.jit(lambda: jax.lax.scan(random_step(env), env.reset(reset_key), keys))
    (_, timestep), _ = play()
    return Workload(
        cell=cell,
        params=state.params,
        root=jax.jit(model.root)(state.params, timestep.observation),
        recurrent_fn=model.recurrent_fn(state.hyperparameters["target.discount"]),
        legal_action_mask=timestep.legal_action_mask,
        config=learner.search,
    )


@dataclasses.dataclass(frozen=True)
class ToyNetwork:
    """Two dense layers and linear heads.

    Attributes:
      num_actions: A.
      embedding_size: E, and the width of the layers.
      sharpness: scale of the prior logits: 1 is flat (about 80 % of the greatest entropy at four
        actions), 6 is sharp (about 15 %).
    """

    num_actions: int
    embedding_size: int = 64
    sharpness: float = 1.0

    def init(self, rng_key: PRNGKey, dtype: str = "float32") -> Weights:
        """Random weights of a floating `dtype`."""
        size, keys = self.embedding_size, jax.random.split(rng_key, 5)
        scale = size**-0.5
        shapes = {
            "encode": ((size + self.num_actions, size), (2 / size) ** 0.5),
            "mix": ((size, size), (2 / size) ** 0.5),
            "policy": ((size, self.num_actions), 1.4 * scale * self.sharpness),
            "value": ((size, 1), 0.8 * scale),
            "reward": ((size, 1), 0.0),
        }
        return {
            name: (jax.random.normal(key, shape) * gain).astype(dtype)
            for key, (name, (shape, gain)) in zip(keys, shapes.items(), strict=True)
        }

    def root(self, weights: Weights, rng_key: PRNGKey, batch_size: int) -> RootFnOutput:
        """Roots `[B]` at random latents.

        Args:
          weights: the weights of the network.
          rng_key: consumed.
          batch_size: `B`.
        """
        latent = jax.random.normal(rng_key, (batch_size, self.embedding_size))
        latent = latent.astype(weights["mix"].dtype)
        return RootFnOutput(
            prior_logits=latent @ weights["policy"],
            value=(latent @ weights["value"])[:, 0] + STEP_COSTS,
            embedding=latent,
        )

    def recurrent_fn(
        self, weights: Weights, rng_key: PRNGKey, action: Array, latent: Array
    ) -> tuple[RecurrentFnOutput, Array]:
        """The model, as searches call it.

        Args:
          weights: the weights of the network.
          rng_key: not consumed.
          action: `[B]` int32.
          latent: `[B, E]`.
        """
        del rng_key
        one_hot = jax.nn.one_hot(action, self.num_actions, dtype=latent.dtype)
        latent = jax.nn.relu(jnp.concatenate([latent, one_hot], axis=-1) @ weights["encode"])
        latent = jax.nn.relu(latent @ weights["mix"])
        latent *= jax.lax.rsqrt(1e-6 + jnp.mean(latent * latent, axis=-1, keepdims=True))
        output = RecurrentFnOutput(
            reward=(latent @ weights["reward"])[:, 0],
            discount=jnp.full(action.shape, 0.99, latent.dtype),
            prior_logits=latent @ weights["policy"],
            value=(latent @ weights["value"])[:, 0] + STEP_COSTS,
        )
        return output, latent

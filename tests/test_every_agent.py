"""What holds for every agent: every search engine trains it, and accelerators can run its chunk."""

import jax
import jax.export
import numpy as np
import pytest
from tiny import tiny_config
from tiny_run import TINY

from muzero_jax.agents.registry import BUILT_IN
from muzero_jax.config import ExperimentConfig
from muzero_jax.envs.registry import make_environment
from muzero_jax.settings import apply_settings, setting_types
from muzero_jax.tabular.presets import tabular
from muzero_jax.training.loop import Train, make_agent, make_train


def config_of(agent: str) -> ExperimentConfig:
    """Small settings of an agent, with the search that accelerators run."""
    learns_networks = agent in ("muzero", "dqn", "pqn")
    config = TINY if learns_networks else tabular("tiny", "line", agent)
    config = apply_settings(config, {"agent": agent})
    engine = {"search.engine": "mctx"} if "search.engine" in setting_types(config) else {}
    return apply_settings(config, {"training.iterations_per_chunk": 2, **engine})


def train_of(config: ExperimentConfig) -> Train:
    env = make_environment(config.environment.name)
    return make_train(env, make_agent(config, env), config)


@pytest.mark.parametrize("agent", BUILT_IN)
def test_the_chunk_is_lowered_for_accelerators(agent):
    train = train_of(config_of(agent))
    state = jax.eval_shape(train.init, jax.random.key(0))
    exported = jax.export.export(jax.jit(train.train_chunk), platforms=["cuda", "tpu", "cpu"])(
        state
    )
    assert set(exported.platforms) == {"cuda", "tpu", "cpu"}
    assert exported.mlir_module_serialized


def test_training_is_the_same_with_every_engine():
    found = {}
    for engine in ("cpp", "linear", "mctx"):
        config = tiny_config(search={"engine": engine})
        config = apply_settings(config, {"environment.name": "catch", "replay.min_size": 32})
        train = train_of(config)
        state = jax.jit(train.init)(jax.random.key(0))
        state, metrics = jax.jit(train.train_chunk)(state)
        assert int(state.agent.num_updates) > 0
        found[engine] = jax.device_get((metrics, state.agent.params, state.replay.transitions))
    for engine in ("linear", "mctx"):
        # Engines are fused differently, so that gradients may differ in their last bits.
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
            found["cpp"],
            found[engine],
        )

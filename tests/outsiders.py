"""Agents and an environment as somebody outside of this package would write them."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import ActOutput, Agent, LearnOutput, Rollouts, Windows
from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.agents.network_state import NetworkState
from muzero_jax.agents.settings import OptimizerConfig
from muzero_jax.core.settings import traced
from muzero_jax.envs.base import Box, EnvironmentSpec, make_timestep
from muzero_jax.replay.buffer import WindowSpec
from muzero_jax.replay.settings import ReplayConfig


class Untrained(struct.PyTreeNode):
    """The state of an agent that learns nothing."""

    hyperparameters: dict
    num_updates: jax.Array


def begin_untrained(rng_key, hyperparameters):
    """The first state of an agent that learns nothing."""
    del rng_key
    return Untrained(jax.tree.map(jnp.float32, dict(hyperparameters)), jnp.zeros((), jnp.int32))


def learn_nothing(state, rng_key, data):
    """Counts the updates."""
    del rng_key, data
    return LearnOutput(state.replace(num_updates=state.num_updates + 1))


@dataclasses.dataclass(frozen=True)
class LookaheadSettings:
    """The settings of a planner that knows the environment."""

    depth: int = 3
    """Steps that are looked ahead."""


def make_lookahead(settings, env, sizes):
    """A planner that tries all sequences of actions on copies of the environment's state."""
    del sizes
    actions = range(env.spec.num_actions)
    sequences = jnp.array(list(itertools.product(actions, repeat=settings.depth)))

    def return_of(env_state, rng_key, sequence):
        def step(carry, action):
            env_state, goes_on = carry
            env_state, timestep = env.step(rng_key, env_state, action)
            return (env_state, goes_on & ~timestep.last), goes_on * timestep.reward[0]

        start = (env_state, jnp.ones((), bool))
        return jax.lax.scan(step, start, sequence)[1].sum()

    def act(state, rng_key, moment):
        def best(env_state, rng_key):
            returns = jax.vmap(return_of, in_axes=(None, None, 0))(env_state, rng_key, sequences)
            return sequences[jnp.argmax(returns), 0]

        keys = jax.random.split(rng_key, len(moment.episode_step))
        return ActOutput(action=jax.vmap(best)(moment.env_state, keys))

    return Agent(Rollouts(), begin_untrained, act, {"lookahead": act}, learn_nothing)


@dataclasses.dataclass(frozen=True)
class StickySettings:
    """The settings of an agent that repeats itself."""

    replay: ReplayConfig = dataclasses.field(
        default_factory=lambda: ReplayConfig(capacity=256, min_size=16, batch_size=16, ratio=1.0)
    )


def make_sticky(settings, env, sizes):
    """An agent that draws an action where an episode begins, notes it down, and repeats it.

    Its notes are 0 before the first action and one more than the action afterwards.
    """
    del sizes

    def act(state, rng_key, moment):
        noted = moment.memory
        drawn = jax.random.randint(rng_key, noted.shape, 0, env.spec.num_actions)
        action = jnp.where(noted == 0, drawn, noted - 1)
        return ActOutput(action=action, memory=action + 1, record=noted)

    return Agent(
        Windows(WindowSpec(1, (0,)), settings.replay),
        begin_untrained,
        act,
        {"sticky": act},
        learn_nothing,
        init_memory=lambda num_envs: jnp.zeros(num_envs, jnp.int32),
    )


@dataclasses.dataclass(frozen=True)
class ActorCriticSettings:
    """The settings of an on-policy learner."""

    hidden_size: int = 16
    """Units of the hidden layer."""
    discount: float = traced(0.9)
    """Discount of one step."""
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=2e-2, warmup_updates=1, weight_decay=0.0, schedule="constant"
        )
    )


def make_actor_critic(settings, env, sizes):
    """A one-step actor-critic (Sutton and Barto 2018, section 13.5), for actions of both kinds."""
    space = env.spec.action_space
    policy = _Gaussian(space) if isinstance(space, Box) else _Categorical(space)
    (num_inputs,) = env.spec.observation_shape

    def init(rng_key, hyperparameters):
        shape = (num_inputs, settings.hidden_size)
        params = {
            "hidden": jax.random.normal(rng_key, shape),
            "offset": jnp.zeros(settings.hidden_size),
            "policy": jnp.zeros((settings.hidden_size, policy.num_outputs)),
            "value": jnp.zeros(settings.hidden_size),
        }
        return NetworkState.fresh(params, hyperparameters, with_target=False)

    def evaluate(params, observation):
        hidden = jnp.tanh(observation @ params["hidden"] + _row(params["offset"], observation))
        return hidden @ params["policy"], hidden @ params["value"]

    def acting(choose):
        def act(state, rng_key, moment):
            output, value = evaluate(state.params, moment.timestep.observation)
            return ActOutput(action=choose(rng_key, output), value=value)

        return act

    def learn(state, rng_key, rollout):
        del rng_key
        steps = rollout.transitions
        following = jnp.concatenate([steps.observation[1:], rollout.timestep.observation[None]])
        if steps.final_observation is not None:
            following = jnp.where(steps.truncated[..., None], steps.final_observation, following)
        discount = state.hyperparameters["discount"] * steps.discount
        target = steps.reward + discount * evaluate(state.params, following)[1]

        def loss(params):
            output, value = evaluate(params, steps.observation)
            error = target - value
            log_probability = policy.log_probability(output, steps.action)
            actor = -(log_probability * jax.lax.stop_gradient(error)).mean()
            critic = jnp.square(error).mean()
            return actor + critic, {"loss/actor": actor, "loss/critic": critic}

        gradient, metrics = sizes.average(jax.grad(loss, has_aux=True)(state.params))
        state, _ = state.descended(gradient, settings.optimizer, sizes.num_updates)
        return LearnOutput(state, metrics)

    greedy = {"mode": acting(lambda rng_key, output: policy.mode(output))}
    return Agent(Rollouts(), init, acting(policy.sample), greedy, learn)


def _row(vector, like):
    return vector.reshape(*[1] * (like.ndim - 1), -1)


class _Categorical:
    def __init__(self, space):
        self.num_outputs = space.num_actions

    def sample(self, rng_key, logits):
        return jax.random.categorical(rng_key, logits).astype(jnp.int32)

    def mode(self, logits):
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def log_probability(self, logits, action):
        logits = jax.nn.log_softmax(logits)
        return jnp.take_along_axis(logits, action[..., None], axis=-1)[..., 0]


class _Gaussian:
    def __init__(self, space, deviation=0.3):
        (self.num_outputs,), self.space, self.deviation = space.shape, space, deviation

    def sample(self, rng_key, mean):
        noise = self.deviation * jax.random.normal(rng_key, mean.shape)
        return jnp.clip(mean + noise, self.space.low, self.space.high)

    def mode(self, mean):
        return jnp.clip(mean, self.space.low, self.space.high)

    def log_probability(self, mean, action):
        return -0.5 * jnp.square((action - mean) / self.deviation).sum(axis=-1)


LOOKAHEAD = AgentDefinition("lookahead", LookaheadSettings, make_lookahead)
STICKY = AgentDefinition("sticky", StickySettings, make_sticky)
ACTOR_CRITIC = AgentDefinition(
    "actor_critic", ActorCriticSettings, make_actor_critic, averages=True
)


@dataclasses.dataclass(frozen=True)
class Throw:
    """One step: the nearer the two numbers of the action come to those observed, the better."""

    @property
    def spec(self):
        """The static description."""
        return EnvironmentSpec(
            "throw", (3,), "float32", max_episode_steps=1, action_space=Box((2,), -2.0, 2.0)
        )

    def reset(self, rng_key):
        """Draws the aim. The `rng_key` is consumed."""
        aim = jax.random.uniform(rng_key, (2,), minval=-1.0)
        observation = jnp.concatenate([aim, jnp.ones(1)])
        return aim, make_timestep(observation, num_actions=0)

    def step(self, rng_key, state, action):
        """Pays the negative squared distance; deterministic."""
        del rng_key
        reward = -jnp.square(action - state).sum()
        observation = jnp.concatenate([state, jnp.zeros(1)])
        return state, make_timestep(observation, num_actions=0, reward=reward, terminated=True)

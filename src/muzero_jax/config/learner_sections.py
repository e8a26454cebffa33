"""The sections of the settings that describe the learner, each with its checks.

"Paper" in a setting's line is MuZero (Schrittwieser et al. 2020, arXiv 1911.08265) unless another
is named. Settings marked *traced* travel in the agent's state and can differ between the members of
one vmapped program; all others decide shapes or control flow and are static.
"""

import dataclasses
import math
from typing import Literal

from muzero_jax.core.checks import require, require_range, require_types

# Of a layer; a support has two atoms for each unit of its half-width.
_WIDEST = 2**17

AgentKind = Literal["muzero", "q_learning", "dyna_q", "prioritised_sweeping", "rmax"]


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """The learner."""

    kind: AgentKind = "muzero"
    """muzero searches a learned model, of networks or (network.kind table) of tables; the others
    are the classical learners of tables (Sutton and Barto 2018, chapters 6 and 8; Brafman and
    Tennenholtz 2002)."""

    def __post_init__(self) -> None:
        require_types("agent", self)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Representation, dynamics and prediction functions."""

    kind: Literal["auto", "mlp", "resnet", "table"] = "auto"
    """Architecture; auto takes mlp for vector observations and resnet for grids (paper: resnet);
    table: no network, see the section table."""
    embedding_size: int = 64
    """mlp: width of the latent state."""
    hidden_sizes: tuple[int, ...] = (128,)
    """mlp: widths of the hidden layers of each of the three functions."""
    stem_channels: int = 16
    """mlp: channels of the 3x3 convolution that grid observations pass first; 0 for none."""
    num_channels: int = 32
    """resnet: channels of the latent state (paper: 256)."""
    num_blocks: int = 1
    """resnet: residual blocks of representation and of dynamics (paper: 16)."""
    downsample: int = 0
    """resnet: stride-2 convolutions before the residual blocks (paper, Atari: 96x96 to 6x6)."""
    head_hidden_size: int = 64
    """resnet: width of the hidden layer of each head."""
    support_size: int = 30
    """Half-width S of the transformed categorical support of 2 S + 1 atoms (paper: 300). Values and
    rewards x are told apart up to sqrt(|x| + 1) - 1 + 0.001 |x| = S times support_spacing: for a
    spacing of 1, up to 117 with S 10, 905 with S 30, 58,700 with S 300. What lies beyond is clipped
    and looks all the same; the metrics target/value_clipped and target/reward_clipped count it."""
    support_spacing: float = 1.0
    """Distance of neighbouring atoms, in units of the transformed value: the support reaches to S
    times this much; closer atoms tell smaller differences of value apart (paper: 1). Choose S times
    the spacing for the largest return, and the spacing for the smallest difference that matters."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the layers' arithmetic; parameters and losses stay float32."""

    def __post_init__(self) -> None:
        require_types("network", self)
        names = (
            "embedding_size",
            "num_channels",
            "head_hidden_size",
            "support_size",
        )
        require_range("network", self, 1, _WIDEST, *names)
        require_range("network", self, 0, _WIDEST, "stem_channels")
        require_range("network", self, 0, 1_000, "num_blocks")
        require_range("network", self, 0, 30, "downsample")
        require(
            0 < self.support_spacing < math.inf,
            f"network.support_spacing must be above 0 and finite, found {self.support_spacing!r}.",
        )
        require(
            min(self.hidden_sizes, default=0) >= 1 and max(self.hidden_sizes) <= _WIDEST,
            f"network.hidden_sizes must be one or more sizes between 1 and {_WIDEST:,}, "
            f"found {self.hidden_sizes}.",
        )


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Tables in the place of networks, for environments whose states are numbered."""

    num_outcomes: int = 1
    """Outcomes of a state and action that a learned model keeps; a new one replaces the rarest."""
    unknown: Literal["pessimistic", "self_loop", "optimistic"] = "pessimistic"
    """What planning takes a state and action to do that were never tried: they end the episode for
    nothing; or leave everything as it is; or end it with optimistic_value, as in R-max."""
    optimistic_value: float = 1.0
    """optimistic: an upper bound of the return."""
    initial_value: float = 0.0
    """Value of what was never learned: a state's, or that of a state and action."""
    step_size: float = 0.1
    """Traced: share of its distance from the target that a value moves in an update."""
    prior: Literal["uniform", "action", "search"] = "uniform"
    """muzero: prior of the search; uniform, or one for each action and as many more as the action
    was taken, or as the search policies of the state add up to."""
    num_backups: int = 10
    """dyna_q and prioritised_sweeping: backups from the model in an update."""
    backup_pairs: Literal["replayed", "observed", "uniform"] = "observed"
    """dyna_q: pairs of state and action that are backed up; those of the replayed batch, or drawn
    from those that were observed, or from all (those that never were are left as they are)."""
    priority_threshold: float = 1e-4
    """prioritised_sweeping: changes of a value below this are not passed on."""
    known_after: int = 1
    """rmax: visits after which a state and action count as known; with more than one,
    table.num_outcomes must hold all outcomes, since one that is replaced is no longer counted."""

    def __post_init__(self) -> None:
        require_types("table", self)
        require_range("table", self, 1, None, "num_outcomes", "num_backups", "known_after")
        require_range("table", self, 0, 1, "step_size")
        require_range("table", self, 0, None, "priority_threshold")
        for name in ("optimistic_value", "initial_value"):
            value = getattr(self, name)
            require(math.isfinite(value), f"table.{name} must be finite, found {value!r}.")


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The tree search that acts, and that makes the policy targets."""

    policy: Literal["gumbel", "muzero"] = "gumbel"
    """gumbel: Gumbel MuZero with sequential halving (Danihelka et al. 2022); muzero: PUCT."""
    engine: Literal["auto", "cpp", "linear", "mctx"] = "auto"
    """linear: this project's search, whose cost follows the nodes passed through (docs/search.md);
    cpp: the same by a kernel in C++, where there is a compiler and code for the rules; mctx:
    `mctx.search`; all with the same results. auto: cpp on a CPU, where it is the fastest, and
    mctx elsewhere, where linear has one kernel only in name."""
    num_simulations: int = 16
    """Simulations a search (paper: 50 on Atari, 800 on boards)."""
    max_depth: int = 0
    """Longest path from the root in tree edges; 0 for no limit."""
    max_num_considered_actions: int = 16
    """gumbel: actions sampled at the root without replacement (Gumbel paper: 16)."""
    gumbel_scale: float = 1.0
    """gumbel, traced: scale of the root's exploration noise while acting; evaluation uses 0."""
    value_scale: float = 0.1
    """gumbel: scale c_scale of the completed Q-values (Gumbel paper: 0.1 on Atari, 1 in Go)."""
    maxvisit_init: float = 50.0
    """gumbel: visit offset c_visit of the completed Q-values (Gumbel paper: 50)."""
    min_qvalue_range: float = 0.1
    """gumbel: Q-values of a node are scaled to [0, 1] by their range, or by this much, in units of
    value, where they lie closer; without it, noise between equal actions looks like a preference
    (mctx: 1e-8)."""
    q_normalisation: Literal["node", "tree", "none"] = "node"
    """muzero: scale Q-values to [0, 1] by those of the node and its children (mctx), or by the
    lowest and highest of the whole tree (paper), or not at all: an untried action then counts 0."""
    action_policy: Literal["visits", "qvalues"] = "visits"
    """muzero: the root's policy is visits ** (1 / temperature) (paper), or the softmax of its
    Q-values over the temperature."""
    root_value: Literal["policy", "mean"] = "policy"
    """Value of a searched state: policy weighs the root's Q-values by the improved policy; mean is
    the root's average backup (paper), which sequential halving biases towards bad actions."""
    epsilon: float = 0.0
    """Traced: share of acted steps that take a random legal action instead of the searched one; a
    deterministic task is otherwise seen from few sides (paper: 0; DQN: 0.1)."""
    dirichlet_alpha: float = 0.3
    """muzero, traced: concentration of the root noise (paper: 0.25 Atari, 0.3 chess, 0.03 Go)."""
    dirichlet_fraction: float = 0.25
    """muzero, traced: share of noise in the root's prior while acting (paper: 0.25)."""
    pb_c_init: float = 1.25
    """muzero: constant c1 of PUCT (paper: 1.25)."""
    pb_c_base: float = 19652.0
    """muzero: constant c2 of PUCT (paper: 19652)."""
    temperature: float = 1.0
    """muzero, traced: softmax temperature over visit counts at the start of training (paper: 1)."""
    final_temperature: float = 0.25
    """muzero, traced: temperature at the end of training (paper: 0.25)."""
    temperature_decay: Literal["linear", "exponential"] = "linear"
    """muzero: how the temperature falls (paper: in steps)."""

    def __post_init__(self) -> None:
        require_types("search", self)
        require_range("search", self, 1, 100_000, "num_simulations")
        require_range("search", self, 1, None, "max_num_considered_actions")
        require_range("search", self, 0, None, "max_depth", "gumbel_scale", "value_scale")
        require_range("search", self, 1e-8, None, "min_qvalue_range")
        require_range("search", self, 0, None, "temperature", "final_temperature")
        require_range("search", self, 0, None, "maxvisit_init", "pb_c_init")
        require(
            0 < self.pb_c_base < math.inf,
            f"search.pb_c_base must be above 0 and finite, found {self.pb_c_base!r}.",
        )
        require_range("search", self, 0, 1, "dirichlet_fraction", "epsilon")
        require(
            self.q_normalisation == "node" or (self.policy, self.engine) == ("muzero", "linear"),
            f"search.q_normalisation {self.q_normalisation} needs search.policy muzero and "
            f"search.engine linear, found {self.policy} and {self.engine}.",
        )
        require(
            self.action_policy == "visits" or self.q_normalisation == "none",
            "search.action_policy qvalues needs search.q_normalisation none, in which an untried "
            f"action counts 0, found {self.q_normalisation}.",
        )
        require(
            self.temperature_decay == "linear" or min(self.temperature, self.final_temperature) > 0,
            "search.temperature_decay exponential needs temperatures above 0, found "
            f"{self.temperature:g} and {self.final_temperature:g}.",
        )
        require(
            0 < self.dirichlet_alpha < math.inf,
            f"search.dirichlet_alpha must be above 0 and finite, found {self.dirichlet_alpha!r}.",
        )


@dataclasses.dataclass(frozen=True)
class TargetConfig:
    """What the networks are trained towards."""

    discount: float = 0.997
    """Traced: discount of one environment step (paper: 0.997 Atari, 1 boards)."""
    num_unroll_steps: int = 5
    """Model unroll steps K of the loss (paper: 5)."""
    td_steps: int = 10
    """Steps n of the value target (paper: 10; Reanalyze: 5); with 0 it is the searched value of the
    state itself, which does not depend on the action that was taken there."""
    td_lambda: float = 1.0
    """TD(lambda) mix of the 1- to n-step returns; 1 is the pure n-step return (paper)."""
    bootstrap: Literal["search", "network", "target_network"] = "target_network"
    """Value at the end of the n steps: search is the one stored when acting (paper), network the
    current parameters' value of the stored observation, target_network that of slow parameters."""
    target_update_rate: float = 0.01
    """target_network: share of the new parameters mixed into the slow ones at each update."""
    reanalyse_fraction: float = 0.0
    """Share of each batch whose policies and bootstrap values come from a fresh search with the
    bootstrap's parameters (paper, Reanalyze: 0.8)."""

    def __post_init__(self) -> None:
        require_types("target", self)
        require_range("target", self, 0, 1, "discount", "td_lambda", "reanalyse_fraction")
        require_range("target", self, 0, 1, "target_update_rate")
        require_range("target", self, 0, 10_000, "num_unroll_steps", "td_steps")
        require(
            self.td_steps > 0 or self.bootstrap == "search" or self.reanalyse_fraction == 1,
            "target.td_steps 0 needs searched values: target.bootstrap search, or "
            f"target.reanalyse_fraction 1, found {self.bootstrap} and {self.reanalyse_fraction:g}.",
        )

    @property
    def window_length(self) -> int:
        """Rows that the targets of `num_unroll_steps + 1` states of `td_steps` each read."""
        return self.num_unroll_steps + self.td_steps + 1


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the K-step unrolled loss."""

    policy_weight: float = 1.0
    """Traced: cross-entropy of the prior with the search policy (paper: 1)."""
    value_weight: float = 0.25
    """Traced: cross-entropy of the value (paper: 1; Reanalyze: 0.25)."""
    reward_weight: float = 1.0
    """Traced: cross-entropy of the reward (paper: 1)."""
    entropy_weight: float = 0.0
    """Traced: entropy of the prior over legal actions, subtracted; it undoes preferences that no
    Q-value supports and so keeps exploring alive (paper: 0; A3C: 0.01)."""
    consistency_weight: float = 0.0
    """Self-predictive consistency of unrolled with encoded latents; 0 leaves its heads out
    (EfficientZero, Ye et al. 2021: 2)."""

    def __post_init__(self) -> None:
        require_types("loss", self)
        names = ("policy_weight", "value_weight", "reward_weight")
        require_range("loss", self, 0, None, *names, "entropy_weight", "consistency_weight")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with global-norm clipping and a learning-rate schedule."""

    learning_rate: float = 1e-3
    """Traced: peak learning rate (paper: 0.05 with momentum SGD; MuZero Unplugged: 1e-4 Adam)."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Decay of the learning rate over all updates of the run, after the warm-up."""
    final_fraction: float = 0.0
    """Learning rate at the end of the decay, as a share of the peak."""
    warmup_updates: int = 100
    """Updates over which the learning rate rises linearly from 0."""
    weight_decay: float = 1e-4
    """Traced: decoupled weight decay, multiplied by the learning rate (paper: 1e-4, L2)."""
    max_gradient_norm: float = 5.0
    """Traced: the gradient is scaled down to this global norm."""

    def __post_init__(self) -> None:
        require_types("optimizer", self)
        require_range("optimizer", self, 0, None, "learning_rate", "warmup_updates")
        require_range("optimizer", self, 0, None, "weight_decay")
        require_range("optimizer", self, 0, 1, "final_fraction")
        require(
            self.max_gradient_norm > 0,
            f"optimizer.max_gradient_norm must be above 0, found {self.max_gradient_norm!r}.",
        )

"""One simulation of one tree: up from the new node to the root, and down to the next leaf."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import mctx

from muzero_jax.core.types import Array, PyTree
from muzero_jax.search.nodes import ACTION, CHOICE, PARENT, VISITS, NewNode, Nodes, fixed_rows
from muzero_jax.search.one_kernel import put_part, put_row, take_row
from muzero_jax.search.rules import UNDECIDED, Node, OpaqueRule, Rule
from muzero_jax.search.walk_state import Context, Leaf, Visit, Way


@dataclasses.dataclass(frozen=True)
class Walk:
    """The search of one root, as functions of its row for `for_each_row`."""

    root_rule: Rule
    interior_rule: Rule
    num_nodes: int
    num_actions: int
    max_depth: Array | int

    @property
    def needs_keys(self) -> bool:
        """Whether a rule may have to be asked with a key."""
        return not (self.root_rule.always_decides and self.interior_rule.always_decides)

    @property
    def needs_bounds(self) -> bool:
        """Whether the tree's lowest and highest Q-value are kept."""
        return self.root_rule.needs_bounds or self.interior_rule.needs_bounds

    @property
    def remembers_choices(self) -> bool:
        """Whether an interior node's choice holds until the node changes."""
        return not (self.interior_rule.needs_bounds or isinstance(self.interior_rule, OpaqueRule))

    @property
    def shows_embeddings(self) -> bool:
        """Whether a rule may look at them."""
        return any(isinstance(r, OpaqueRule) for r in (self.root_rule, self.interior_rule))

    @property
    def needs_only_nodes(self) -> bool:
        """Whether the rules decide without a key and without an embedding."""
        return not (self.needs_keys or self.shows_embeddings)

    def new_node(self, step: mctx.RecurrentFnOutput, leaf: Leaf, numbers: Array) -> NewNode:
        """The nodes of `[B]` leaves, which get the `numbers [B]` in their trees."""
        chex.assert_equal_shape([step.reward, step.discount, step.value, leaf.action])
        chex.assert_shape(step.prior_logits, (*leaf.action.shape, self.num_actions))
        fixed = fixed_rows(step.prior_logits, step.value)
        probs = fixed[:, self.num_actions : -1]
        choice = jax.vmap(self.interior_rule.decide_unvisited)(probs)
        edge = jnp.stack([step.reward, step.discount], axis=-1)
        return NewNode(
            links=jnp.stack([numbers, leaf.parent, leaf.action, choice], axis=-1),
            numbers=jnp.concatenate([fixed, edge], axis=-1),
        )

    def find_first_leaf(self, row: Array, leaf: Leaf, inputs: PyTree) -> Leaf:
        """Finds the leaf of a row's first simulation."""
        nodes, context = inputs
        return Leaf(put_row(leaf.links, row, self.first_links(row, nodes, context)))

    def backup_and_select(self, row: Array, state: PyTree, inputs: PyTree) -> PyTree:
        """Adds the new node of a row, backs its value up, and finds the row's next leaf."""
        (nodes, leaf), (new, context) = state, inputs
        new = jax.tree.map(lambda x: take_row(x, row), new)
        nodes, links = self.next_links(row, nodes, new, context)
        return nodes, Leaf(put_row(leaf.links, row, links))

    def first_links(self, row: Array, nodes: Nodes, context: Context) -> Array:
        """`[3]` as in `Leaf`, of a row's first simulation."""
        root = self._visit(row, nodes, row * self.num_nodes)
        return self._select(row, nodes, context, root)

    def next_links(
        self, row: Array, nodes: Nodes, new: NewNode, context: Context
    ) -> tuple[Nodes, Array]:
        """Adds a row's new node, whose fields have no `B`; and `[3]` of the simulation after it."""
        nodes, root = self._backup(row, nodes, new)
        return nodes, self._select(row, nodes, context, root)

    def _visit(self, row: Array, nodes: Nodes, index: Array) -> Visit:
        return Visit(
            index=index,
            visits=take_row(nodes.visits, index),
            qvalues=take_row(nodes.qvalues, index),
            visit_count=take_row(nodes.links, index)[VISITS],
            value=take_row(nodes.value, index),
            target=jnp.zeros((), nodes.value.dtype),
            q_bounds=None if nodes.q_bounds is None else take_row(nodes.q_bounds, row),
        )

    def _arrive(
        self, row: Array, nodes: Nodes, origin: Array, edge: Array, value: Array, target: Array
    ) -> Visit:
        """The visit of a parent that comes from a child of that value and target."""
        visit = self._visit(row, nodes, row * self.num_nodes + origin[0])
        tried = jnp.arange(self.num_actions) == origin[1]
        qvalue = edge[0] + edge[1] * value
        return visit.replace(
            visits=visit.visits + tried,
            qvalues=jnp.where(tried, qvalue, visit.qvalues),
            target=edge[0] + edge[1] * target,
            q_bounds=_widened(visit.q_bounds, qvalue),
        )

    def _backup(self, row: Array, nodes: Nodes, new: NewNode) -> tuple[Nodes, Visit]:
        first = row * self.num_nodes
        links, numbers = new.links, new.numbers
        index, origin = first + links[0], links[1:3]
        fixed, edge = numbers[:-2], numbers[-2:]
        value = fixed[-1].astype(nodes.value.dtype)
        edge = edge.astype(nodes.edges.dtype)
        slot = (first + origin[0]) * self.num_actions + origin[1]
        # The depth limit leads to the same leaf again, which then has a visit more.
        visit_count = take_row(nodes.links, index)[VISITS] + 1
        nodes = nodes.replace(
            fixed=put_row(nodes.fixed, index, fixed),
            value=put_row(nodes.value, index, value),
            links=put_row(nodes.links, index, jnp.stack([*origin, visit_count, links[3]])),
            edges=put_row(nodes.edges, slot, edge),
            children=put_row(nodes.children, slot, links[0]),
        )
        parent = self._arrive(row, nodes, origin, edge, value, value)
        nodes, root = jax.lax.while_loop(
            lambda state: state[1].index != first,
            lambda state: self._climb(row, *state),
            (self._first_visit(nodes, parent), parent),
        )
        nodes, root = self._count(row, nodes, root)
        return self._choose(nodes, root, jnp.int32(UNDECIDED)), root

    def _first_visit(self, nodes: Nodes, parent: Visit) -> Nodes:
        """Only the parent of a new node has an action that was not visited before."""
        probs = take_row(nodes.fixed, parent.index)[self.num_actions : -1]
        visited_prob = jnp.sum(jnp.where(parent.visits > 0, probs, 0.0))
        return nodes.replace(visited_prob=put_row(nodes.visited_prob, parent.index, visited_prob))

    def _climb(self, row: Array, nodes: Nodes, visit: Visit) -> tuple[Nodes, Visit]:
        """Counts a visit, lets the node choose again, and goes on to its parent."""
        nodes, visit = self._count(row, nodes, visit)
        choice = jnp.int32(UNDECIDED)
        if self.remembers_choices:
            choice = self.interior_rule.decide(self._node(nodes, visit))
        # The parent is looked up after the choice is stored, in the same array: were the parent's
        # row loaded before this node's is done with, XLA would copy both at every step.
        nodes = self._choose(nodes, visit, choice)
        origin = take_row(nodes.links, visit.index)[PARENT : ACTION + 1]
        slot = (row * self.num_nodes + origin[0]) * self.num_actions + origin[1]
        edge = take_row(nodes.edges, slot)
        return nodes, self._arrive(row, nodes, origin, edge, visit.value, visit.target)

    def _count(self, row: Array, nodes: Nodes, visit: Visit) -> tuple[Nodes, Visit]:
        """Takes the target into the node's mean, and stores all but its `links`."""
        total = visit.value * visit.visit_count + visit.target
        visit = visit.replace(
            value=total / (visit.visit_count + 1.0), visit_count=visit.visit_count + 1
        )
        nodes = nodes.replace(
            visits=put_row(nodes.visits, visit.index, visit.visits),
            qvalues=put_row(nodes.qvalues, visit.index, visit.qvalues),
            value=put_row(nodes.value, visit.index, visit.value),
        )
        if nodes.q_bounds is not None and visit.q_bounds is not None:
            nodes = nodes.replace(q_bounds=put_row(nodes.q_bounds, row, visit.q_bounds))
        return nodes, visit

    def _choose(self, nodes: Nodes, visit: Visit, choice: Array) -> Nodes:
        """Stores a node's count and choice, the last half of its `links`."""
        counts = _pair(visit.visit_count, choice)
        return nodes.replace(links=put_part(nodes.links, visit.index, VISITS, counts))

    def _node(self, nodes: Nodes, visit: Visit) -> Node:
        fixed = take_row(nodes.fixed, visit.index)
        return Node(
            prior_logits=fixed[: self.num_actions],
            prior_probs=fixed[self.num_actions : -1],
            visits=visit.visits,
            qvalues=visit.qvalues,
            raw_value=fixed[-1],
            value=visit.value,
            visit_count=visit.visit_count,
            visited_prob=take_row(nodes.visited_prob, visit.index),
            q_bounds=visit.q_bounds,
        )

    def _select(self, row: Array, nodes: Nodes, context: Context, root: Visit) -> Array:
        """Follows the rules from the root to an action that leads to no node yet."""
        first = row * self.num_nodes
        facts = jax.tree.map(lambda x: take_row(x, row), context.roots)
        node = self._node(nodes, root)._replace(
            invalid_actions=facts.invalid_actions, extra_data=facts.extra_data
        )
        way = Way(
            index=first,
            action=self.root_rule.decide(node),
            child=jnp.int32(UNDECIDED),
            depth=jnp.int32(0),
            key=None if context.keys is None else context.keys[row],
            num_splits=jnp.int32(0),
        )
        way = self._step(row, nodes, context, way, is_root=True)
        way = jax.lax.while_loop(
            lambda way: (way.child >= 0) & (way.depth < self.max_depth),
            lambda way: self._descend(row, nodes, context, way),
            way,
        )
        return jnp.stack([way.index - first, way.action, way.child])

    def _descend(self, row: Array, nodes: Nodes, context: Context, way: Way) -> Way:
        """From an action to the child it leads to, and to the action chosen there."""
        index = row * self.num_nodes + way.child
        if self.remembers_choices:
            choice = take_row(nodes.links, index)[CHOICE]
        else:
            choice = self.interior_rule.decide(self._node(nodes, self._visit(row, nodes, index)))
        way = way.replace(index=index, action=choice)
        return self._step(row, nodes, context, way, is_root=False)

    def _step(self, row: Array, nodes: Nodes, context: Context, way: Way, is_root: bool) -> Way:
        """Settles an undecided choice, and looks up where the action leads."""
        rule = self.root_rule if is_root else self.interior_rule
        if not rule.always_decides:
            way = jax.lax.cond(
                way.action == UNDECIDED,
                lambda: self._ask(row, nodes, context, way, is_root),
                lambda: way,
            )
        child = take_row(nodes.children, way.index * self.num_actions + way.action)
        return way.replace(child=child, depth=way.depth + 1)

    def _ask(self, row: Array, nodes: Nodes, context: Context, way: Way, is_root: bool) -> Way:
        """The choice of a rule of mctx, with the key that mctx would have given it.

        mctx splits a key at every node on the way down; those of nodes that needed none are made
        up for.
        """
        key = jax.lax.fori_loop(
            way.num_splits, way.depth, lambda _, key: jax.random.split(key)[0], way.key
        )
        key, action_key = jax.random.split(key)
        tree = self._view(row, nodes, context, way.index)
        if is_root:
            action = self.root_rule(action_key, tree, 0)
        else:
            action = self.interior_rule(action_key, tree, 0, way.depth)
        return way.replace(action=action.astype(jnp.int32), key=key, num_splits=way.depth + 1)

    def _view(self, row: Array, nodes: Nodes, context: Context, index: Array) -> mctx.Tree:
        """An unbatched tree of one node."""
        first = row * self.num_nodes
        visit = self._visit(row, nodes, index)
        node = self._node(nodes, visit)
        slots = index * self.num_actions + jnp.arange(self.num_actions)
        children, edges, links = nodes.children[slots], nodes.edges[slots], nodes.links[index]
        known = jnp.where(children >= 0, nodes.value[first + jnp.maximum(children, 0)], 0)
        fields = {
            "node_visits": node.visit_count,
            "raw_values": node.raw_value,
            "node_values": node.value,
            "parents": links[PARENT],
            "action_from_parent": links[ACTION],
            "children_index": children,
            "children_prior_logits": node.prior_logits,
            "children_values": known,
            "children_visits": node.visits,
            "children_rewards": edges[:, 0],
            "children_discounts": edges[:, 1],
            "embeddings": jax.tree.map(lambda x: take_row(x, index), context.embeddings),
        }
        facts = jax.tree.map(lambda x: take_row(x, row), context.roots)
        return mctx.Tree(
            **jax.tree.map(lambda x: x[None], fields),
            root_invalid_actions=facts.invalid_actions,
            extra_data=facts.extra_data,
        )


def _pair(a: Array, b: Array) -> Array:
    return jnp.stack([a, b])


def _widened(bounds: Array | None, value: Array) -> Array | None:
    if bounds is None:
        return None
    return _pair(jnp.minimum(bounds[0], value), jnp.maximum(bounds[1], value))

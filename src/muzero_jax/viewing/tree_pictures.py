"""Pictures of search trees: visits, values, and the path that was chosen."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from muzero_jax.reports.plots import COLOURS, INK, new_figure, save_figure
from muzero_jax.search.policies import Tree

_EDGE, _CHOSEN = "#B8B8B8", COLOURS[1]
_MAX_NODES = 48


@dataclasses.dataclass(frozen=True)
class DrawnNode:
    """One node of a picture.

    Attributes:
      index: number of the node in the tree.
      x: distance from the left, in units of a leaf's width.
      depth: edges from the root.
      is_chosen: whether the node is on the chosen path, see `chosen_path`.
    """

    index: int
    x: float
    depth: int
    is_chosen: bool


def draw_tree(tree: Tree, action: int, title: str, out: Sequence[Path]) -> None:
    """Draws one tree, or the most visited nodes of a large one.

    A disc is a node. Its area grows with the visits and its colour with the value, and both are
    written in it. An edge is an action; its width is its share of the visits, and its prior is
    written beside it. The chosen path is orange.

    Args:
      tree: an unbatched tree of NumPy arrays.
      action: the action that was taken at the root.
      title: text above the picture.
      out: files to write; the ending of each (.svg, .png) is its format. Missing folders are made.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    nodes = layout(tree, action)
    width = max(node.x for node in nodes) + 1
    depth = max(node.depth for node in nodes)
    size = (min(max(6.0, 0.8 * width), 40), min(max(3.0, 1.25 * (depth + 1)), 40))
    figure = new_figure(size)
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, loc="left", color=INK)
    axes.set(xlim=(-0.8, width - 0.2), ylim=(depth + 0.6, -0.6))
    axes.axis("off")
    _draw_edges(axes, tree, nodes)
    _draw_nodes(figure, axes, tree, nodes)
    for path in out:
        save_figure(figure, path, dpi=130, kind=path.suffix[1:])


def layout(tree: Tree, action: int, max_nodes: int = _MAX_NODES) -> list[DrawnNode]:
    """Places the most visited nodes: children side by side, parents above their middle.

    Args:
      tree: an unbatched tree of NumPy arrays.
      action: the action that was taken at the root.
      max_nodes: number of nodes to place.
    """
    visits = np.asarray(tree.node_visits)
    by_visits = np.argsort(-visits, kind="stable")
    kept = {int(i) for i in by_visits[:max_nodes] if visits[i] > 0}
    path = chosen_path(tree, action)
    places: list[DrawnNode] = []
    next_leaf = 0.0

    def place(index: int, depth: int) -> float:
        nonlocal next_leaf
        # A parent is visited more often than its children, so the kept nodes are connected.
        children = [int(c) for c in tree.children_index[index] if int(c) in kept]
        xs = [place(child, depth + 1) for child in children]
        if not xs:
            next_leaf += 1
        x = float(np.mean(xs)) if xs else next_leaf - 1
        places.append(DrawnNode(index, x, depth, index in path))
        return x

    place(0, 0)
    return places


def chosen_path(tree: Tree, action: int) -> list[int]:
    """The nodes that are reached from the root by `action` and then by the most visited actions."""
    path, child = [0], int(tree.children_index[0, action])
    while child >= 0:
        path.append(child)
        child = int(tree.children_index[child, int(np.argmax(tree.children_visits[child]))])
    return path


def prior_of(tree: Tree, index: int) -> np.ndarray:
    """`[A]` prior probabilities of the actions of node `index`."""
    return np.asarray(jax.nn.softmax(tree.children_prior_logits[index]))


def _draw_edges(axes: Any, tree: Tree, nodes: Sequence[DrawnNode]) -> None:
    places = {node.index: node for node in nodes}
    total = max(int(tree.node_visits[0]), 1)
    for node in (node for node in nodes if node.index):
        parent = places[int(tree.parents[node.index])]
        action = int(tree.action_from_parent[node.index])
        colour = _CHOSEN if node.is_chosen and parent.is_chosen else _EDGE
        width = 1 + 5 * int(tree.node_visits[node.index]) / total
        ends = [parent.x, node.x], [parent.depth, node.depth]
        axes.plot(*ends, color=colour, linewidth=width, zorder=1)
        label = f"a{action} {prior_of(tree, parent.index)[action]:.0%}"
        middle = (parent.x + 2 * node.x) / 3, (parent.depth + 2 * node.depth) / 3 - 0.12
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
        axes.text(*middle, label, fontsize=6.5, ha="center", color=INK, bbox=box, zorder=2)


def _draw_nodes(figure: Any, axes: Any, tree: Tree, nodes: Sequence[DrawnNode]) -> None:
    values = np.array([float(tree.node_values[node.index]) for node in nodes])
    visits = np.array([int(tree.node_visits[node.index]) for node in nodes])
    discs = axes.scatter(
        [node.x for node in nodes],
        [node.depth for node in nodes],
        s=260 + 900 * visits / max(visits.max(), 1),
        c=values,
        cmap="Blues",
        vmin=values.min() - 0.25 * (np.ptp(values) or 1.0),
        vmax=values.max() + 0.6 * (np.ptp(values) or 1.0),
        edgecolors=[_CHOSEN if node.is_chosen else "#7A7A7A" for node in nodes],
        linewidths=[2.0 if node.is_chosen else 0.8 for node in nodes],
        zorder=3,
    )
    for node, value, count in zip(nodes, values, visits, strict=True):
        place = {"x": node.x, "y": node.depth, "ha": "center", "va": "center", "zorder": 4}
        axes.text(s=f"{value:.3g}\n{count}", fontsize=6.5, color=INK, **place)
    figure.colorbar(discs, ax=axes, shrink=0.6, pad=0.01).set_label("value", fontsize=8)

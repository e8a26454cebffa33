"""Tree pictures, and looking into a decision."""

import jax
import mctx
import numpy as np
import pytest
from untrained_run import make_untrained_run

from muzero_jax.cli import main
from muzero_jax.runs.build import load_run
from muzero_jax.viewing.inspection import find_decision
from muzero_jax.viewing.play import play_episodes
from muzero_jax.viewing.tree_pictures import chosen_path, draw_tree, layout


def small_tree():
    """Root 0 with children 1 (action 0) and 2 (action 1); 3 below 1 by action 1; 4 unused."""
    children = np.full((5, 2), -1)
    children[0], children[1] = (1, 2), (-1, 3)
    visits = np.zeros((5, 2), int)
    visits[0], visits[1] = (2, 1), (0, 1)
    zeros = np.zeros((5, 2))
    return mctx.Tree(
        node_visits=np.array([4, 2, 1, 1, 0]),
        raw_values=np.zeros(5),
        node_values=np.array([0.5, 1.0, -1.0, 2.0, 0.0]),
        parents=np.array([-1, 0, 0, 1, -1]),
        action_from_parent=np.array([-1, 0, 1, 1, -1]),
        children_index=children,
        children_prior_logits=zeros,
        children_values=zeros,
        children_visits=visits,
        children_rewards=zeros,
        children_discounts=zeros,
        embeddings=None,
        root_invalid_actions=np.zeros(2),
        extra_data=None,
    )


def test_the_layout_puts_parents_above_the_middle_of_their_children():
    places = {node.index: node for node in layout(small_tree(), action=0)}
    assert set(places) == {0, 1, 2, 3}
    assert [places[i].depth for i in (0, 1, 2, 3)] == [0, 1, 1, 2]
    assert places[1].x == places[3].x == 0 and places[2].x == 1 and places[0].x == 0.5
    assert [places[i].is_chosen for i in (0, 1, 2, 3)] == [True, True, False, True]


def test_a_large_tree_keeps_the_most_visited_nodes_and_stays_connected():
    kept = {node.index for node in layout(small_tree(), action=0, max_nodes=2)}
    assert kept == {0, 1}


def test_the_chosen_path_follows_the_action_and_then_the_visits():
    assert chosen_path(small_tree(), 0) == [0, 1, 3]
    assert chosen_path(small_tree(), 1) == [0, 2]


def test_the_picture_is_written_as_svg_and_png(tmp_path):
    out = [tmp_path / "deep" / f"tree.{kind}" for kind in ("svg", "png")]
    draw_tree(small_tree(), 0, "a title", out)
    assert "a title" in out[0].read_text() or "<svg" in out[0].read_text()
    assert out[1].read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_untrained_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_a_decision_holds_what_was_searched(run_dir):
    run = load_run(run_dir)
    decision = find_decision(run, step=2, seed=1)
    assert decision.step == 2
    rows = decision.rows
    assert [row["action"] for row in rows] == [0, 1, 2]
    assert sum(row["visits"] for row in rows) == run.config.learner.search.num_simulations
    np.testing.assert_allclose([sum(r[k] for r in rows) for k in ("prior", "policy")], 1, rtol=1e-5)
    assert all(np.isnan(row["q"]) == (row["visits"] == 0) for row in rows)
    again = find_decision(run, step=2, seed=1)
    np.testing.assert_equal(again.rows, rows)
    game = (run.env, run.agent, run.agent_state)
    (episode,) = play_episodes(*game, episodes=1, max_episode_steps=3, seed=1)
    jax.tree.map(np.testing.assert_array_equal, decision.timestep, episode[2].timestep)


def test_inspect_draws_and_prints_and_says_when_the_episode_is_over(run_dir, capsys):
    assert main(["inspect", str(run_dir), "--step", "1"]) == 0
    printed = capsys.readouterr().out
    assert "search policy" in printed and "taken" in printed
    assert (run_dir / "inspect" / "tree_step1.svg").exists()
    assert (run_dir / "inspect" / "tree_step1.png").exists()
    assert main(["inspect", str(run_dir), "--step", "999"]) == 1
    assert "ends after" in capsys.readouterr().err
    assert main(["inspect", str(run_dir), "--step", "-1"]) == 2

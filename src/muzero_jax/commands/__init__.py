"""The parts of the `muzero` command: finding experiments, reading options, doing what is asked."""

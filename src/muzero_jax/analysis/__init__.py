"""What a run left behind, read on the host: interval estimates, figures, result tables."""

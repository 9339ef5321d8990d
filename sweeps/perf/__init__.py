"""What a run costs: rounds in fresh processes, baselines with hot spots, and budgets per state."""

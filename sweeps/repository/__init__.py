"""The gate of a repository: what a change touches of packs, gates, lanes and locks, and whether it still holds."""

"""Runs the command: `python -m lanelock`."""

from lanelock.sweeps.terminal.cli import main

main()

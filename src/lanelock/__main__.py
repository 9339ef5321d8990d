"""`python -m lanelock`: the command."""

from lanelock.sweeps.terminal.cli import main

main()

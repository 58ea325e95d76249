"""`python -m taoemb`."""

from taoemb.cli.main import main

main()

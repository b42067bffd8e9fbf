"""`python -m correlator` is the command `correlator`."""

from correlator.cli.main import run

run()

"""The command line: arguments and exit codes; the work is in `correlator.run`."""

"""The pipeline and its carriers, and the work behind each command of the command line."""

"""Renderers of threats for other systems; they decide nothing. None yet: the account and JSON are in `correlator.run`."""

"""The carrier of one site on one machine: receivers, a SQLite log and the same engine, in one process."""

from correlator.embedded.core import Core, Submission
from correlator.embedded.log import EmbeddedLog, Kept, Turn
from correlator.embedded.settings import EmbeddedSettings

__all__ = ["Core", "EmbeddedLog", "EmbeddedSettings", "Kept", "Submission", "Turn"]

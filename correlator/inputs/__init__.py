"""Everything that receives besides MQTT: followed files, syslog and HTTP listeners.

A receiver turns what comes in into raw messages (`correlator.ingest.raw`), stamps the receive time
once, and hands them to a `Sink`. It acknowledges (answers 202, moves on in a file, reads on from a
connection) only what the sink has kept for good: that is the whole of its back-pressure.
"""

from correlator.inputs.files import FileFollower
from correlator.inputs.http import HttpListener
from correlator.inputs.positions import FilePosition, PositionFile, Positions, Reading
from correlator.inputs.settings import FileInput, HttpInput, HttpServer, InputsSettings, SyslogInput, TlsServer
from correlator.inputs.sink import Sink, Stamp
from correlator.inputs.syslog import SyslogListener

__all__ = [
    "FileFollower",
    "FileInput",
    "FilePosition",
    "HttpInput",
    "HttpListener",
    "HttpServer",
    "InputsSettings",
    "PositionFile",
    "Positions",
    "Reading",
    "Sink",
    "Stamp",
    "SyslogInput",
    "SyslogListener",
    "TlsServer",
]

"""How a command ends: exit codes, and what a person sees instead of a traceback.

    0    done, and everything is as expected
    1    done, and something is not (an expectation, a rule test, `--strict`)
    2    not done: a faulty file, a wrong argument, a full disk
    130  interrupted from the keyboard
    141  the reader of our output has gone (`| head`)

Anything else is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from correlator.errors import CorrelatorError, FaultyFile

OK = 0
UNUSABLE = 2
INTERRUPTED = 130
READER_GONE = 141


def guarded(work: Callable[[], int]) -> int:
    """Runs a command's work and gives its exit code; output is flushed, so a full disk shows here."""
    try:
        code = work()
        sys.stdout.flush()
    except CorrelatorError as error:
        _say(error_text(error))
        return UNUSABLE
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return READER_GONE
    except OSError as error:
        if error.errno == errno.ENOSPC:
            where = f" while writing {error.filename}" if error.filename else ""
            _say(f"the disk is full{where}; what was written so far is incomplete")
        else:
            _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        _drop_stdout()
        return UNUSABLE
    return code


def error_text(error: CorrelatorError) -> str:
    """The faults, one a line, and their number where there are several; else the error's text."""
    if not isinstance(error, FaultyFile) or len(error.faults) == 1:
        return str(error)
    errors = sum(fault.severity == "error" for fault in error.faults)
    warnings = len(error.faults) - errors
    count = f"{errors} error{'s' * (errors != 1)}"
    if warnings:
        count += f", {warnings} warning{'s' * (warnings != 1)}"
    return f"{error}\n{count}"


def _say(text: str) -> None:
    print(f"correlator: {text}" if "\n" not in text else text, file=sys.stderr)


def _drop_stdout() -> None:
    """Sends what is still buffered nowhere, so that the interpreter's last flush raises nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

"""`correlator rules explain --predicates`."""

from __future__ import annotations

from typing import TextIO

from correlator.rules.syntax import WHERE_PREDICATES


def list_predicates(stdout: TextIO) -> int:
    """Prints every predicate of `x-correlator.where` with operands, options and meaning; gives 0."""
    for word, (operands, options, says) in sorted(WHERE_PREDICATES.items()):
        names = ["a.field", "b.field"][:operands]
        shape = f"{word}: {names[0] if operands == 1 else '[' + ', '.join(names) + ']'}"
        print(shape, file=stdout)
        print(f"    {says}", file=stdout)
        for option, kind in options.items():
            print(f"    {option}: {kind}", file=stdout)
    return 0

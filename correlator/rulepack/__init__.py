"""The rule pack that is on by default: data only, one YAML file a theme.

`events.yml` holds the detections that correlations of all files refer to, so the folder is loaded as a
whole. docs/rulepack.md lists the rules.
"""

from pathlib import Path
from typing import Final

PACK: Final[Path] = Path(__file__).parent

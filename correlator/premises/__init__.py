"""The site model: what stands where, what belongs to whom, what depends on what, and what is so now.

`load_site` reads a site file; `Premises` answers the questions of rules, findings and alerts.
"""

from correlator.premises.load import check_site, load_site, load_site_text, read_site, site_of
from correlator.premises.premises import Premises, unknown_yaml
from correlator.premises.vocabulary import ASSET_CLASSES, RELATION_TYPES, THREAT_TYPES

__all__ = [
    "ASSET_CLASSES",
    "RELATION_TYPES",
    "THREAT_TYPES",
    "Premises",
    "check_site",
    "load_site",
    "load_site_text",
    "read_site",
    "site_of",
    "unknown_yaml",
]

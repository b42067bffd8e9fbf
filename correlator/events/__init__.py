"""The words every stage speaks: events, entities, kinds, identities, ids."""

from correlator.events.event import (
    ENTITY_KINDS,
    LEVEL_RANK,
    LEVELS,
    REJECT_REASONS,
    ROLES,
    Entity,
    Event,
    KeptMessage,
    Reject,
    StateValue,
)
from correlator.events.identity import Identity
from correlator.events.kinds import KINDS, Kind

__all__ = [
    "ENTITY_KINDS",
    "KINDS",
    "LEVELS",
    "LEVEL_RANK",
    "REJECT_REASONS",
    "ROLES",
    "Entity",
    "Event",
    "Identity",
    "Kind",
    "KeptMessage",
    "Reject",
    "StateValue",
]

"""How findings become threats: the Protocol, and the linkers that fulfil it."""

"""Settings of the notifier: the part `notifier:` of correlator.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from correlator.ingest.heartbeat import Heartbeat
from correlator.words.language import Language

Severity = Literal["informational", "low", "medium", "high", "critical"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _clock(text: str) -> str:
    hours, _, minutes = text.partition(":")
    if not (len(text) == 5 and hours.isdigit() and minutes.isdigit() and int(minutes) < 60):
        raise ValueError(f"{text!r} is not a time of day such as 07:30")
    if int(hours) * 60 + int(minutes) > 24 * 60:
        raise ValueError(f"{text!r} is after 24:00")
    return text


Clock = Annotated[str, AfterValidator(_clock)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Times(_Part):
    """A part of the week in the site's time zone; `to` before `from` goes on into the next day."""

    days: tuple[Day, ...] = Field(default=DAYS, description="days on which it begins")
    begin: Clock = Field(default="00:00", alias="from", description="first minute")
    end: Clock = Field(default="24:00", alias="to", description="first minute after it")


class Receiver(_Part):
    """Who is told. A channel is an Apprise URL; it holds passwords, so it may come from a file."""

    name: str = Field(min_length=1, description="as routes name it")
    role: str = Field(default="", description="facility manager, guard, ...")
    language: Language = Field(default="en", description="of what it reads")
    url: SecretStr | None = Field(default=None, description="channel as an Apprise URL; or CORRELATOR_NOTIFIER__...")
    url_file: Path | None = Field(default=None, description="file whose first line is the channel's URL")
    duty: tuple[Times, ...] = Field(default=(), description="on duty then, for routes by role; default: always")
    outside: bool = Field(default=False, description="not of the site: is told of no drill")
    quiet: tuple[Times, ...] = Field(default=(), description="messages are held then, except critical ones")
    per_hour: int = Field(default=60, ge=1, description="most messages an hour, except critical ones")
    on_failure: str = Field(default="", description="receiver that hears when this channel is dead")

    @model_validator(mode="after")
    def _one_channel(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError(f"receiver {self.name} needs either url or url_file")
        return self


class Match(_Part):
    """What a route is for; everything named must fit, of a list one is enough."""

    severity: Severity = Field(default="informational", description="at least this")
    sites: tuple[str, ...] = Field(default=(), description="ids of sites")
    zones: tuple[str, ...] = Field(default=(), description="ids of zones in which an affected asset stands")
    services: tuple[str, ...] = Field(default=(), description="ids of care services that may be hit")
    domains: tuple[Literal["physical", "cyber", "building"], ...] = Field(default=(), description="domains")
    threat_types: tuple[str, ...] = Field(default=(), description="threat types")
    times: tuple[Times, ...] = Field(default=(), description="only then")


class Route(_Part):
    """A branch of the routing tree: the first branch that fits is taken, and the next ones too if it `goes_on`."""

    match: Match = Field(default_factory=Match, description="what it is for")
    receivers: tuple[str, ...] = Field(default=(), description="who is told")
    roles: tuple[str, ...] = Field(default=(), description="and those of a role on duty; is nobody, all of the role")
    routes: tuple[Route, ...] = Field(default=(), description="finer branches; none fits: this one")
    goes_on: bool = Field(default=False, description="also try the branches after this one")


class Step(_Part):
    """Who is told when nobody acknowledged."""

    after_min: int = Field(ge=1, le=24 * 60, description="minutes after the first message")
    receivers: tuple[str, ...] = Field(default=(), description="who is told then")
    roles: tuple[str, ...] = Field(default=(), description="and those of a role on duty; is nobody, all of the role")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.receivers and not self.roles:
            raise ValueError("an escalation step needs receivers or roles")
        return self


class Summary(_Part):
    """A message once a week: what was raised and true, what went dark, which batteries are low."""

    day: Day = Field(default="mon", description="day of the week")
    at: Clock = Field(default="07:00", description="time of day, of the site's zone; it tells the seven days before")
    receivers: tuple[str, ...] = Field(min_length=1, description="who is told")


class Warnings(_Part):
    """Public warnings (CAP 1.2): drafted from a threat, sent only after one of these people approved it."""

    approvers: tuple[str, ...] = Field(min_length=1, description="pseudonyms of those with the right to approve")
    receivers: tuple[str, ...] = Field(min_length=1, description="to whom an approved warning goes, as XML")
    sender: str = Field(pattern=r"^[^ ,<&]+$", description="CAP's sender, a mail address; no blank, comma, < and &")


class NotifierSettings(_Part):
    """`correlator notifier`. The root of `routes` is the default route: it has receivers and no match."""

    receivers: tuple[Receiver, ...] = Field(min_length=1, description="who can be told")
    routes: Route = Field(description="the routing tree")
    escalation: tuple[Step, ...] = Field(default=(), description="when nobody acknowledges")
    remind_min: int = Field(default=30, ge=5, description="acknowledged and forgotten: a reminder after this long")
    growth_min: int = Field(default=5, ge=1, description="a growing threat is told again at most this often")
    max_shelf_h: int = Field(default=8, ge=1, le=72, description="longest time on a shelf")
    give_up_min: int = Field(default=60, ge=1, description="a channel that fails this long is told to be dead")
    link: str = Field(default="", description="address of a threat's page, its id follows")
    summary: Summary | None = Field(default=None, description="a summary once a week")
    warnings: Warnings | None = Field(default=None, description="public warnings")
    heartbeats: tuple[Heartbeat, ...] = Field(default=(), description="who is told every so often that alerting lives")

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        names = [one.name for one in self.receivers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two receivers are called {', '.join(twice)}")
        if not self.routes.receivers:
            raise ValueError("the routing tree has no default: its root needs receivers")
        if self.routes.match != Match():
            raise ValueError("the root of the routing tree is the default route and matches everything: drop its match")
        used = [*_used(self.routes), *(name for step in self.escalation for name in step.receivers)]
        used += [one.on_failure for one in self.receivers if one.on_failure]
        used += [*(self.summary.receivers if self.summary else ()), *(self.warnings.receivers if self.warnings else ())]
        unknown = sorted(set(used) - set(names))
        if unknown:
            raise ValueError(f"no receiver is called {', '.join(unknown)}; there are {', '.join(names)}")
        roles = {one.role for one in self.receivers if one.role}
        asked = {*_roles(self.routes), *(name for step in self.escalation for name in step.roles)}
        if asked - roles:
            there = f"there are {', '.join(sorted(roles))}" if roles else "no receiver has one"
            raise ValueError(f"no receiver has the role {', '.join(sorted(asked - roles))}; {there}")
        return self

    def receiver(self, name: str) -> Receiver:
        """The receiver of a name that the settings hold."""
        return next(one for one in self.receivers if one.name == name)


def _used(route: Route) -> Iterator[str]:
    yield from route.receivers
    for one in route.routes:
        yield from _used(one)


def _roles(route: Route) -> Iterator[str]:
    yield from route.roles
    for one in route.routes:
        yield from _roles(one)


def channel_url(receiver: Receiver) -> str:
    """The channel of a receiver. Raises OSError if its file cannot be read."""
    if receiver.url is not None:
        return receiver.url.get_secret_value()
    assert receiver.url_file is not None
    lines = receiver.url_file.read_text(encoding="utf-8").splitlines()
    return lines[0].strip() if lines else ""


def settings_of(values: dict[str, Any]) -> NotifierSettings:
    """Settings from plain values. Raises pydantic's ValidationError."""
    return NotifierSettings.model_validate(values)

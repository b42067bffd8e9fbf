"""A threat to the hospital's case system, by hand: one POST with an OCSF Detection Finding."""

from __future__ import annotations

from typing import Final

import requests

from correlator import __version__
from correlator.console.settings import CaseSettings
from correlator.errors import UsageError
from correlator.events.threat import Threat
from correlator.outputs import ocsf
from correlator.outputs.format import About, one_line

_TIMEOUT_S: Final = 10.0
_SAID: Final = 200  # characters of an answer


def send(settings: CaseSettings, threat: Threat) -> str:
    """What became of it, in words: "sent: 201" or "not sent: ...". Follows no redirect; nothing is tried again."""
    headers = {"Content-Type": "application/json"}
    if settings.token_file is not None:
        try:
            headers["Authorization"] = f"Bearer {settings.token_file.read_text(encoding='utf-8').strip()}"
        except OSError as error:
            raise UsageError(f"{settings.token_file}: cannot be read: {error.strerror}") from error
    body = ocsf.render(threat, About(version=__version__, link=settings.link))
    try:
        answer = requests.post(settings.url, body, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False)
    except requests.RequestException as error:
        return f"not sent: {type(error).__name__}"
    if answer.ok and not answer.is_redirect:
        return f"sent: {answer.status_code} {one_line(answer.text)[:_SAID]}".strip()
    return f"not sent: {answer.status_code}"

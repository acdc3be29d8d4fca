"""The way to a judge: any endpoint that speaks OpenAI's chat completions, through the `openai` package.

The package retries what may pass (429, 5xx, timeouts, lost connections) with growing pauses, and waits as long as the server asks
for, up to two minutes; an answer without a text is asked for again here, as often. The key comes from the environment and lives in the
package's client alone: no error, log line or file holds it.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_kick.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import openai

KEYS = ("KICK_JUDGE_KEY", "OPENAI_API_KEY")
TEMPERATURE = 0.0
MAX_TOKENS = 4096
"""Of an answer: a judge that goes on without end is cut off, and then says nothing that can be read."""
TIMEOUT = 120.0
"""Seconds without a byte."""
RETRIES = 5
LONGEST_WAIT = 120.0
"""Seconds: where a server asks for more, the package does not try again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before an answer without a text is asked for again, twice as long each time: the package's own pauses."""
_SHOWN = 120
_NOT_INSTALLED = "--kick-judge: package: got no openai, expected it installed. pip install 'pytest-kick[judge]'."
_NO_KEY = "none"  # servers without keys take anything
_SHORTEST_KEY = 8  # characters: a shorter one is a placeholder, and may stand in any text


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeClient:
    """Ask one model at one endpoint.

    Attributes:
        url: of the endpoint, up to and without `/chat/completions`.
        model: its name there.
        timeout: seconds without a byte before a try counts as lost.
        retries: further tries of a question.
    """

    url: str
    model: str
    timeout: float = TIMEOUT
    retries: int = RETRIES

    def __post_init__(self) -> None:
        """Check the address.

        Raises:
            ProbeError: it is none, or holds what may be a secret.
        """
        check_address(self.url)

    @contextmanager
    def opened(self) -> Iterator[Callable[[str, str], str]]:
        """Open connections; yield what takes a system text ("" for none) and a prompt, and returns the judge's text. For any thread.

        Raises:
            ProbeError: the endpoint cannot be asked, or answers something else than a chat completion.
        """
        package: Any = _package()
        try:
            client = package.OpenAI(api_key=_key() or _NO_KEY, base_url=self.url, timeout=self.timeout, max_retries=self.retries)
        except ProbeError:
            raise
        except Exception as error:  # noqa: BLE001 - what the transport raises for proxies and certificates of the environment
            client, refused = None, type(error).__name__
        if client is None:  # outside of the handler: the transport's exceptions hold addresses of proxies, and those passwords
            raise self._failure(refused, "Check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE")
        client.organization = client.project = None  # of OpenAI's accounts, from the environment: nobody else's business
        with client:
            yield lambda system, prompt: self._ask(client, package, system, prompt)

    def _ask(self, client: openai.OpenAI, package: Any, system: str, prompt: str) -> str:  # noqa: ANN401 - a module
        """Return the judge's text, which has something in it: of an empty one nobody knows what the judge would say."""
        reason = ""
        for place in range(self.retries + 1):
            if place:
                time.sleep(min(FIRST_PAUSE * 2 ** (place - 1), LONGEST_PAUSE))
            text, reason = self._reply(client, package, system, prompt)
            if text.strip():
                return text
        why = f" (finish_reason {reason})" if reason else ""
        advice = f"Run again, or take a judge that answers within {MAX_TOKENS} tokens, thoughts included: what was judged is kept"
        got = f"no text in {self.retries + 1} tries{why}"
        raise self._failure(got, advice, "an answer")

    def _reply(self, client: openai.OpenAI, package: Any, system: str, prompt: str) -> tuple[str, str]:  # noqa: ANN401 - a module
        """Return the text of one chat completion, and why it ended there."""
        turns: Any = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": prompt}]
        try:
            raw = client.chat.completions.with_raw_response.create(
                model=self.model, messages=turns, temperature=TEMPERATURE, max_tokens=MAX_TOKENS
            )
            body, kind = raw.http_response.text, raw.headers.get("content-type", "no content type")
        except package.APIStatusError as error:
            got, advice = self._status(error)
        except package.APITimeoutError:
            got, advice = f"no answer within {self.timeout:g} s", "Try again, or take a faster endpoint"
        except package.APIConnectionError as error:
            broken = type(error.__cause__).__name__
            got, advice = "no connection", "Start the server, or correct the URL"
            if broken not in {"ConnectError", "NoneType"}:  # it was there, and then hung up or cut its answer short
                got, advice = f"a connection that broke off ({broken})", "Check the server, or what stands between"
        except Exception as error:  # noqa: BLE001 - what client and transport raise for headers and bodies they cannot handle
            got, advice = type(error).__name__, "Check the URL and the server"
        else:
            found = _content(body)
            if found is not None:
                return _without(_key(), found[0]), shown(_without(_key(), found[1]))
            got, advice = (
                f"{shown(kind)} without choices[0].message.content",
                "Give the URL that /chat/completions follows, such as https://HOST/v1",
            )
        raise self._failure(got, advice)  # outside of the handlers: the package's exceptions hold requests, and those the key

    def _status(self, error: openai.APIStatusError) -> tuple[str, str]:
        """Return what went wrong and what to do, for an answer with a status of 4xx or 5xx."""
        body = error.body if isinstance(error.body, dict) else {}
        said = shown(_without(_key(), str(body.get("message") or "")))
        got = f"HTTP {error.status_code}{f' ({said})' if said else ''}"
        advice = {
            401: f"Set {KEYS[0]} to a key of this endpoint",
            403: f"Set {KEYS[0]} to a key that may use this model",
            404: "Correct the URL or the model's name",
            429: f"Its rate limit holds on after {self.retries} retries: run again later, what was judged is kept",
        }
        if wait := _longer_wait(error.response.headers.get("retry-after", "")):
            advice[429] = advice[503] = f"It asks to wait {wait:.0f} s: run again then, what was judged is kept"
        return got, advice.get(error.status_code, "Check the server" if error.status_code >= 500 else "Correct URL or model")  # noqa: PLR2004

    def _failure(self, got: str, advice: str, expected: str = "a chat completion") -> ProbeError:
        return ProbeError(f"--kick-judge {self.url}: {self.model!r}: got {got}, expected {expected}. {advice}.")


def check_address(url: str) -> None:
    """Refuse an address of another kind than `http(s)://host[:port][/path]`.

    Raises:
        ProbeError: it is; the address is not shown where it may hold a secret.
    """
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:
        fine = False
        parts = urlsplit("")
    if "@" in url or "?" in url or "#" in url:
        msg = f"--kick-judge: URL: got one with user, query or fragment, expected http(s)://host/path. Give the key in {KEYS[0]}."
        raise ProbeError(msg)
    if not fine:
        msg = f"--kick-judge: URL: got {shown(url)!r}, expected http(s)://host/path. Write it as https://api.openai.com/v1."
        raise ProbeError(msg)


def shown(text: str) -> str:
    """Return a foreign text as a message may show it: one line, short, without markup or control characters."""
    plain = re.sub(r"<[^<>]*>?", " ", text)
    plain = "".join(letter if letter.isprintable() and letter not in "<>`|[]*_" else " " for letter in plain)
    return " ".join(plain.split())[:_SHOWN].rstrip(" .")


def _longer_wait(header: str) -> float:
    """Return the seconds that a server asks to wait where the package does not wait for it, else 0: a number, or a date."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if LONGEST_WAIT < seconds < math.inf else 0.0


def check_installed() -> None:
    """Check that the package is there, without importing it.

    Raises:
        ProbeError: it is not; the message names the command that installs it.
    """
    if find_spec("openai") is None:
        raise ProbeError(_NOT_INSTALLED)


def _package() -> Any:  # noqa: ANN401 - a module
    try:
        return import_module("openai")
    except ImportError as error:
        raise ProbeError(_NOT_INSTALLED) from error


def _key() -> str:
    """Return the key, "" for none.

    Raises:
        ProbeError: no header can hold it; it is not shown.
    """
    for name in KEYS:
        key = os.environ.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            msg = f"--kick-judge: {name}: got a key with spaces or beyond ASCII, expected one that a header can hold. Copy it anew."
            raise ProbeError(msg)
        if key:
            return key
    return ""


def _without(key: str, text: str) -> str:
    """Return a text of the server without the key, which it may have echoed."""
    return text.replace(key, "***") if len(key) >= _SHORTEST_KEY else text


def _content(body: str) -> tuple[str, str] | None:
    """Return text and finish_reason of a chat completion, "" where there is none, None where the body is no chat completion."""
    try:
        choice = json.loads(body)["choices"][0]
        content, reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    if not isinstance(content, str | None):
        return None
    return content or "", reason if isinstance(reason, str) else ""

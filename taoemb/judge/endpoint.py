"""One judge endpoint over HTTP: OpenAI chat completions asked for the log-probabilities of a single token.

Requests and answers have the shape of OpenAI's API; several pairs go in one request by vLLM's route
`…/chat/completions/batch` (`messages` is a list of conversations, the answer has one choice a conversation).

aiohttp, because a step may be thousands of requests beside the optimiser: with 32 under way httpx takes some twenty
times as long of the interpreter for each (benchmarks/speed/judge_client.py).
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx

from taoemb.config import JudgeConfig
from taoemb.errors import InputError
from taoemb.judge.answers import NoLogprobs, Probs, grade_probs
from taoemb.judge.failures import JudgeUnavailable
from taoemb.judge.metrics import JudgeMetrics

TOP_LOGPROBS = 20  # the most that OpenAI and vLLM give by default
Conversation = list[dict[str, str]]
_MEANING = {401: "wants a valid key (judge.api_key_file)", 403: "forbids access", 404: "lacks the model or route"}
CONNECT_S = 10.0
KEEP_ALIVE_S = 4.0  # below uvicorn's 5 s: an idle connection is closed on this side, never under a request
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_log = logging.getLogger(__name__)


class Transient(Exception):
    """A failure worth another try. `away`: it can't be this request's fault. `after_s`: the server asked to wait."""

    def __init__(self, reason: str, *, away: bool, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.away, self.after_s = away, after_s


class Refused(Exception):
    """The judge answered that it will not take this request (HTTP 4xx)."""


class Endpoint:
    """The HTTP side of a judge client. Belongs to one event loop."""

    def __init__(self, config: JudgeConfig, metrics: JudgeMetrics) -> None:
        if not config.url:
            raise InputError(
                "judge.url is not set: give the base URL of the judge, e.g. http://127.0.0.1:8081/openai/v1"
            )
        host = _host(config.url)
        self.url = config.url.rstrip("/")
        self.batches = config.batch_size > 1
        self._model, self._metrics = config.model, metrics
        fixed = {"model": config.model, "max_tokens": 1, "temperature": 0, "logprobs": True}
        self._fixed = fixed | {"top_logprobs": TOP_LOGPROBS} | dict(config.extra_body)
        self._had_logprobs = False
        self._headers = {"content-type": "application/json"} | _authorization(config)
        self._timeout = aiohttp.ClientTimeout(config.timeout_s, sock_connect=min(config.timeout_s, CONNECT_S))
        self._trust_env = host not in _LOOPBACK  # proxies of the environment are for the network
        # certifi's authorities: not every image has its own
        self._certificates = httpx.create_ssl_context(trust_env=self._trust_env)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def release(self) -> str:
        """What names the judge: the digest that GET …/models gives, else its id and root. Raises as :meth:`ask`."""
        try:
            answer = await self._send("GET", "/models", None)
        except Refused as refusal:
            raise JudgeUnavailable(f"the judge at {self.url}/models says {refusal}; check judge.url") from None
        models = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(models, list) or not models or not all(isinstance(m, dict) and "id" in m for m in models):
            raise JudgeUnavailable(f"the judge at {self.url} lists no model; set judge.release to name it")
        model = next((model for model in models if model["id"] == self._model), models[0])
        digest = model.get("taoemb_digest") or model.get("digest")
        root = model.get("root")
        return str(digest or (model["id"] if root in (None, model["id"]) else f"{model['id']} {root}"))

    async def ask(self, conversations: Sequence[Conversation]) -> list[Probs | None]:
        """Grade probabilities of each conversation; None where the answer is malformed.

        Raises Transient (try again), Refused (never), JudgeUnavailable (the judge can't be used at all).
        """
        batch = len(conversations) > 1
        route = "/chat/completions/batch" if batch else "/chat/completions"
        messages = list(conversations) if batch else conversations[0]
        answer = await self._send("POST", route, self._fixed | {"messages": messages})
        found: list[Probs | None] = [None] * len(conversations)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index", 0) if isinstance(choice, dict) else None
            if isinstance(index, int) and 0 <= index < len(found):
                found[index] = self._probs(choice)
        return found

    def _probs(self, choice: Mapping[str, Any]) -> Probs | None:
        try:
            probs = grade_probs(choice)
        except NoLogprobs:
            if self._had_logprobs:
                return None
            raise JudgeUnavailable(
                f"the judge at {self.url} gives no log-probabilities; use a runtime that answers `top_logprobs` (vLLM, "
                "KServe's HuggingFace runtime, taoemb judge serve)"
            ) from None
        self._had_logprobs = True
        return probs

    async def _send(self, method: str, route: str, body: Mapping[str, Any] | None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        started = time.perf_counter()
        try:
            reply = await self._request(method, self.url + route, content)
        except (aiohttp.ClientError, OSError) as error:
            self._metrics.requests.labels(self.url, "error").inc()
            away = not isinstance(error, TimeoutError) or isinstance(error, aiohttp.ConnectionTimeoutError)
            raise Transient(f"{type(error).__name__}: {error}".rstrip(": "), away=away) from None
        finally:
            self._metrics.latency.labels(self.url).observe(time.perf_counter() - started)
        self._metrics.requests.labels(self.url, str(reply.status)).inc()
        self._raise_for(reply, route)
        try:
            return json.loads(reply.content)
        except ValueError:
            return None  # malformed: the pairs stay unanswered

    async def _request(self, method: str, url: str, content: bytes | None) -> "_Reply":
        if self._session is None:  # here, because it belongs to the running loop; the asker bounds what is under way
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=self._certificates),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=self._timeout,
                trust_env=self._trust_env,
            )
        async with self._session.request(method, url, data=content, allow_redirects=False) as response:
            return _Reply(response.status, response.headers.get("retry-after", ""), await response.read())

    def _raise_for(self, reply: "_Reply", route: str) -> None:
        status = reply.status
        if status in (408, 429) or status >= 500:
            raise Transient(f"HTTP {status}", away=status in (429, 502, 503), after_s=_seconds(reply.retry_after))
        if status in (404, 405) and route.endswith("/batch"):
            raise NoBatchRoute
        if status in (401, 403, 404):
            raise JudgeUnavailable(
                f"the judge at {self.url}{route} {_MEANING[status]}: HTTP {status} {reply.detail}; "
                f"check judge.url and judge.model ({self._model!r})"
            )
        if status >= 300:
            raise Refused(f"HTTP {status} {reply.detail}")


@dataclass(frozen=True)
class _Reply:
    status: int
    retry_after: str
    content: bytes

    @property
    def detail(self) -> str:
        """The beginning of what the judge said, on one line."""
        return " ".join(self.content[:300].decode(errors="replace").split())


class NoBatchRoute(Exception):
    """The server has no route for several conversations in one request."""


def _host(url: str) -> str:
    try:
        parsed = urlsplit(url)
        host = parsed.hostname if parsed.port != 0 else None  # reading a port that is no number raises
    except ValueError:
        host = None
    if not host or parsed.scheme not in ("http", "https"):
        raise InputError(f"judge.url {url!r}: expected http://HOST[:PORT]/openai/v1 or https://…")
    return host


def _authorization(config: JudgeConfig) -> dict[str, str]:
    if config.api_key_file is None:
        return {}
    try:
        key = config.api_key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"judge.api_key_file {config.api_key_file}: {error}") from None
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(f"judge.api_key_file {config.api_key_file}: expected one line with the key")
    return {"authorization": f"Bearer {key}"}


def _seconds(retry_after: str) -> float | None:
    """Seconds of a Retry-After header (its date form is rare and left to the backoff)."""
    value = retry_after.strip()
    return float(value) if value.isdecimal() else None

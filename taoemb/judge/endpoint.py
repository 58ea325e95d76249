"""One judge endpoint over HTTP: OpenAI chat completions asked for the log-probabilities of a single token.

Requests and answers have the shape of OpenAI's API; several pairs go in one request by vLLM's route
`…/chat/completions/batch` (`messages` is a list of conversations, the answer has one choice a conversation).

aiohttp, because a step may be thousands of requests beside the optimiser: with 32 under way httpx takes some twenty
times as long of the interpreter for each (benchmarks/speed/judge_client.py).
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx

from taoemb.config import JudgeConfig
from taoemb.errors import InputError
from taoemb.judge.answers import Judgment, NoAnswer, NoLogprobs, read_choice, shortened
from taoemb.judge.failures import JudgeUnfit
from taoemb.judge.identity import release_of
from taoemb.judge.metrics import JudgeMetrics
from taoemb.judge.replies import CONNECT_S, Refused, Reply, Transient, network_failure, words
from taoemb.secret_file import read_secret

TOP_LOGPROBS = 20  # the most that OpenAI and vLLM give by default
Conversation = list[dict[str, str]]
_MEANING = {401: "wants a valid key (judge.api_key_file)", 403: "forbids access", 404: "lacks the model or route"}
KEEP_ALIVE_S = 4.0  # below uvicorn's 5 s: an idle connection is closed on this side, never under a request
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MENDS = {  # what a refusal speaks of → the setting that mends it
    "max_completion_tokens": "set judge.extra_body={max_tokens: null, max_completion_tokens: 1}",
    "top_logprobs": "lower it, e.g. judge.extra_body={top_logprobs: 5}",
    "context length": "lower judge.item_tokens, or serve the model with a longer context",
    "maximum input length": "lower judge.item_tokens, or serve the model with a longer context",
    "model": "set judge.model to the name that the server knows",
}


class NoBatchRoute(Exception):
    """The server has no route for several conversations in one request."""


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
        self._min_mass, self._timeout_s = config.min_label_mass, config.timeout_s
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
        """What names the judge (see :mod:`taoemb.judge.identity`). Raises as :meth:`ask`."""
        reply = await self._send("GET", "/models", None)
        try:
            self._check(reply, "/models")
            answer = reply.json()
        except (Refused, Transient) as problem:
            if isinstance(problem, Transient) and reply.status >= 300:
                raise
            raise JudgeUnfit(
                f"the judge at {self.url}/models says {problem}; check judge.url, or name the judge with judge.release"
            ) from None
        return release_of(answer, self._model, self.url)

    async def ask(self, conversations: Sequence[Conversation]) -> list[Judgment | NoAnswer]:
        """The judgment of each conversation, or why there is none.

        Raises Transient (try again), Refused (never), JudgeUnavailable (the judge can't be used at all).
        """
        batch = len(conversations) > 1
        route = "/chat/completions/batch" if batch else "/chat/completions"
        messages = list(conversations) if batch else conversations[0]
        reply = await self._send("POST", route, self._fixed | {"messages": messages})
        self._check(reply, route)
        try:
            answer = reply.completion()
        except Refused as refusal:
            raise self._refusal(refusal, route) from None
        missing = NoAnswer(f'no choice for it in "{words(reply.content)}"')
        found: list[Judgment | NoAnswer] = [missing] * len(conversations)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index", 0) if isinstance(choice, dict) else None
            if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(found):
                once = found[index] is missing
                found[index] = self._read(choice) if once else NoAnswer(f"two choices for one pair (index {index})")
        return found

    def _read(self, choice: Mapping[str, Any]) -> Judgment | NoAnswer:
        try:
            answer = read_choice(choice, self._min_mass)
        except NoLogprobs:
            if self._had_logprobs:
                return NoAnswer(f"no log-probabilities in {shortened(choice)}")
            raise JudgeUnfit(
                f"the judge at {self.url} gives no log-probabilities; use a runtime that answers `top_logprobs` (vLLM, "
                f"KServe's HuggingFace runtime, taoemb judge serve); it answered {shortened(choice)}"
            ) from None
        self._had_logprobs = True
        if answer.mass is not None:
            self._metrics.label_mass.labels(self.url).observe(answer.mass)
        return answer

    async def _send(self, method: str, route: str, body: Mapping[str, Any] | None) -> Reply:
        content = None if body is None else json.dumps(body).encode()
        started = time.perf_counter()
        try:
            reply = await self._request(method, self.url + route, content)
        except (aiohttp.ClientError, OSError) as error:
            self._metrics.requests.labels(self.url, "error").inc()
            raise network_failure(error, self._timeout_s) from None
        finally:
            self._metrics.latency.labels(self.url).observe(time.perf_counter() - started)
        self._metrics.requests.labels(self.url, str(reply.status)).inc()
        return reply

    async def _request(self, method: str, url: str, content: bytes | None) -> Reply:
        if self._session is None:  # here, because it belongs to the running loop; the asker bounds what is under way
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=self._certificates),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=self._timeout,
                trust_env=self._trust_env,
            )
        async with self._session.request(method, url, data=content, allow_redirects=False) as response:
            return Reply(response.status, response.headers.get("retry-after", ""), await response.read())

    def _check(self, reply: Reply, route: str) -> None:
        if reply.status in (404, 405) and route.endswith("/batch"):
            raise NoBatchRoute
        try:
            reply.check()
        except Refused as refusal:
            raise self._refusal(refusal, route) from None

    def _refusal(self, refusal: Refused, route: str) -> Exception:
        """The refusal of one request, or, where it would meet every other one too, of this client."""
        if refusal.status in (401, 403, 404):
            return JudgeUnfit(
                f"the judge at {self.url}{route} {_MEANING[refusal.status]}: {refusal}; "
                f"check judge.url and judge.model ({self._model!r})"
            )
        mend = next((mend for word, mend in _MENDS.items() if word in str(refusal)), None)
        return Refused(f"{refusal}; {mend}", refusal.status) if mend else refusal


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
    return {"authorization": f"Bearer {read_secret(config.api_key_file, 'judge.api_key_file')}"}

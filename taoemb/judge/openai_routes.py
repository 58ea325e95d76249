"""OpenAI's chat completions for a judge: one token, its label, and real log-probabilities.

Plain Starlette handlers on purpose: a training step asks thousands of pairs, and typed models would cost more than the
judge. Bad requests are answered 4xx in OpenAI's error format, never 5xx.
"""

import itertools
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from taoemb.errors import InputError
from taoemb.hosting.batching import MicroBatcher, Overloaded
from taoemb.hosting.requests import TooLarge, openai_error, read_body, while_connected
from taoemb.judge.batcher import Conversations, Scored
from taoemb.judge.prompt import LABELS
from taoemb.judge.protocol import Backend, Message

PREFIX = "/openai/v1"
MAX_CONVERSATIONS = 2048
MAX_MESSAGES = 64
MAX_CHARACTERS = 1_000_000  # of one conversation
MAX_TOP_LOGPROBS = 20
_ROLES = ("system", "developer", "user", "assistant")
_log = logging.getLogger(__name__)


class JudgeRoutes:
    """The handlers of one served judge."""

    def __init__(
        self, name: str, backend: Backend, batcher: MicroBatcher[Conversations, Scored], max_body: int
    ) -> None:
        self._name, self._batcher, self._max_body = name, batcher, max_body
        self._created = int(time.time())
        self._numbers = itertools.count(1)
        self._model = {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "taoemb",
            "taoemb_digest": backend.digest,
            "kind": backend.kind,
            "max_model_len": backend.max_tokens,
        }

    def routes(self) -> list[Route]:
        """The routes to add to an application."""
        return [
            Route(f"{PREFIX}/chat/completions", self.complete, methods=["POST"]),
            Route(f"{PREFIX}/chat/completions/batch", self.complete_batch, methods=["POST"]),
            Route(f"{PREFIX}/models", self.models, methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """GET /models: the judge and its digest."""
        return JSONResponse({"object": "list", "data": [self._model]})

    async def complete(self, request: Request) -> Response:
        """POST /chat/completions: one conversation."""
        return await self._answer(request, batch=False)

    async def complete_batch(self, request: Request) -> Response:
        """POST /chat/completions/batch: `messages` is a list of conversations; one choice a conversation, by index."""
        return await self._answer(request, batch=True)

    async def _answer(self, request: Request, *, batch: bool) -> Response:
        try:
            body = _parse(await read_body(request, self._max_body))
            if body.get("model") != self._name:
                return openai_error(
                    404, f"the model {body.get('model')!r} does not exist; this server has {self._name!r}"
                )
            conversations = _conversations(body, batch)
            top = _top_logprobs(body)
            scored = await while_connected(request, self._batcher.ask(conversations))
        except InputError as error:
            return openai_error(400, str(error))
        except TooLarge as error:
            return openai_error(413, str(error))
        except Overloaded:
            return openai_error(429, "too many pairs are waiting; try again", {"retry-after": "1"})
        except ClientDisconnect:
            return openai_error(400, "the client went away")
        except RuntimeError as error:  # what torch raises, e.g. out of memory
            _log.error("judging failed: %s", error)
            return openai_error(500, "judging failed; see the server's log")
        return Response(json.dumps(self._completion(scored, top)), media_type="application/json")

    def _completion(self, scored: Scored, top: int | None) -> dict[str, Any]:
        pairs = len(scored.logprobs)
        others = scored.others or [None] * pairs
        rows = zip(scored.logprobs.tolist(), others, strict=True)
        usage = {"prompt_tokens": scored.prompt_tokens, "completion_tokens": pairs}
        return {
            "id": f"chatcmpl-{self._created:x}-{next(self._numbers)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._name,
            "choices": [_choice(index, logprobs, other, top) for index, (logprobs, other) in enumerate(rows)],
            "usage": usage | {"total_tokens": scored.prompt_tokens + pairs},
        }


def _choice(index: int, logprobs: Sequence[float], other: tuple[str, float] | None, top: int | None) -> dict[str, Any]:
    """The likeliest label; among the alternatives also the token that the model would rather have begun with."""
    if any(math.isnan(logprob) for logprob in logprobs):
        logprobs, other = (), None  # the model broke down on this pair: say nothing
    labels = sorted(zip(logprobs, LABELS, strict=False), reverse=True)
    first = [(other[1], other[0])] if other else []
    entries = [_entry(token, logprob) for logprob, token in [*first, *labels]]
    content = [_entry(label, logprob) | {"top_logprobs": entries[:top]} for logprob, label in labels[:1]]
    return {
        "index": index,
        "message": {"role": "assistant", "content": labels[0][1] if labels else "", "refusal": None},
        "logprobs": None if top is None else {"content": content, "refusal": None},
        "finish_reason": "length",
    }


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}


def _parse(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise InputError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise InputError("the body is not a JSON object")
    if body.get("stream"):
        raise InputError("stream: a label is one token; ask without streaming")
    if body.get("n") not in (None, 1):
        raise InputError("n: a judge gives one answer")
    return body


def _top_logprobs(body: Mapping[str, Any]) -> int | None:
    """How many alternatives are wanted; None when no log-probabilities are."""
    if not body.get("logprobs"):
        return None
    top = body.get("top_logprobs")
    if top is None:
        return 0
    if not isinstance(top, int) or isinstance(top, bool) or not 0 <= top <= MAX_TOP_LOGPROBS:
        raise InputError(f"top_logprobs: expected a number from 0 to {MAX_TOP_LOGPROBS}")
    return top


def _conversations(body: Mapping[str, Any], batch: bool) -> list[list[Message]]:
    messages = body.get("messages")
    if not batch:
        return [_conversation(messages, "messages")]
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_CONVERSATIONS:
        raise InputError(f"messages: expected a list of 1 to {MAX_CONVERSATIONS} conversations")
    return [_conversation(part, f"messages[{number}]") for number, part in enumerate(messages)]


def _conversation(messages: Any, where: str) -> list[Message]:
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
        raise InputError(f"{where}: expected a list of 1 to {MAX_MESSAGES} messages")
    read = [_message(message, f"{where}[{number}]") for number, message in enumerate(messages)]
    if sum(len(message["content"]) for message in read) > MAX_CHARACTERS:
        raise InputError(f"{where}: longer than {MAX_CHARACTERS:,} characters")
    return read


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise InputError(f"{where}: expected an object with a role of {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, list):  # OpenAI's content parts
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        content = "".join(texts) if texts and len(texts) == len(content) else None
    if not isinstance(content, str):
        raise InputError(f"{where}.content: expected text")
    if not content.isascii():
        try:
            content.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where}.content: not valid Unicode (a lone surrogate)") from None
    role = "system" if message["role"] == "developer" else message["role"]
    return {"role": role, "content": content}

"""The routes that answer with vectors.

They stand before KServe's own V1 and V2 inference routes, which know no limits, don't notice that a client has gone,
and answer some malformed requests with a 5xx. Health, metadata and metrics are KServe's.
"""

import logging
import time
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from taoemb.config import EncoderServerConfig
from taoemb.errors import InputError
from taoemb.hosting.batching import MicroBatcher, Overloaded
from taoemb.hosting.requests import TooLarge, read_body, while_connected
from taoemb.serving.encoder.batches import Texts
from taoemb.serving.encoder.metrics import encoder_metrics
from taoemb.serving.encoder.model import Embedded
from taoemb.serving.encoder.openai import OPENAI
from taoemb.serving.encoder.protocols import Protocol, Served, UnknownModel, check_limits, json_reply
from taoemb.serving.encoder.v1 import V1
from taoemb.serving.encoder.v2 import V2

OPENAI_PREFIX = "/openai/v1"
_GONE = 499  # what servers count a client as that left; nobody reads it
_log = logging.getLogger(__name__)


class EncoderRoutes:
    """The handlers of one served release."""

    def __init__(
        self,
        served: Served,
        batcher: MicroBatcher[Texts, Embedded],
        config: EncoderServerConfig,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._served, self._batcher, self._config = served, batcher, config
        self._max_body = int(config.max_body_mb * 1e6)
        self._metrics = encoder_metrics(registry)
        self._created = int(time.time())

    def routes(self) -> list[Route]:
        """The routes to add to an application."""
        asked = {
            f"{OPENAI_PREFIX}/embeddings": OPENAI,
            "/v1/models/{model}:predict": V1,
            "/v2/models/{model}/infer": V2,
        }
        routes = [Route(path, partial(self.answer, protocol), methods=["POST"]) for path, protocol in asked.items()]
        return [*routes, Route(f"{OPENAI_PREFIX}/models", self.models, methods=["GET"])]

    async def models(self, request: Request) -> Response:
        """GET /openai/v1/models: the release and its digest."""
        model = {"id": self._served.name, "object": "model", "created": self._created, "owned_by": "taoemb"}
        told = {"release": self._served.digest, "dimension": self._served.dimension}
        return json_reply({"object": "list", "data": [model | told]})

    async def answer(self, protocol: Protocol, request: Request) -> Response:
        """Vectors for the texts of a request in `protocol`."""
        response = await self._answer(protocol, request)
        self._metrics.requests.labels(protocol.name, response.status_code).inc()
        return response

    async def _answer(self, protocol: Protocol, request: Request) -> Response:
        try:
            body = await read_body(request, self._max_body)
            start = time.perf_counter()
            asked = protocol.read(self._served, request.path_params.get("model"), body, request.headers)
            check_limits(asked.texts, self._config)
            response = asked.reply(await while_connected(request, self._batcher.ask(asked.texts)))
        except InputError as error:
            return protocol.refuse(400, str(error), None)
        except UnknownModel as error:
            return protocol.refuse(404, str(error), None)
        except TooLarge as error:
            return protocol.refuse(413, str(error), None)
        except Overloaded:
            return protocol.refuse(429, "too many texts are waiting; try again", {"retry-after": "1"})
        except ClientDisconnect:
            return protocol.refuse(_GONE, "the client went away", None)
        except RuntimeError as error:  # what torch, onnxruntime and openvino raise, e.g. out of memory
            _log.error("encoding failed: %s", error)
            return protocol.refuse(500, "encoding failed; see the server's log", None)
        self._metrics.request_seconds.labels(protocol.name).observe(time.perf_counter() - start)
        return response

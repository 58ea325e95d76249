"""The gateway's routes for shoppers: searches and events."""

import asyncio
import hmac
import logging
import time
from collections import Counter
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import Scope

from taoemb.config import GatewayConfig
from taoemb.errors import InputError
from taoemb.secret_file import TESTER_HEADER, read_secret
from taoemb.serving.gateway.callers import OWN, SCOPE, Caller, Limits, too_many
from taoemb.serving.gateway.errors import problem
from taoemb.serving.gateway.filters import expression
from taoemb.serving.gateway.metrics import GatewayMetrics
from taoemb.serving.gateway.models import (
    Accepted,
    Event,
    EventBatch,
    Events,
    Page,
    Problem,
    SearchBody,
    SearchParameters,
    ToldPage,
)
from taoemb.serving.gateway.page_ids import PageIds
from taoemb.serving.gateway.record import Rows, event_row, page, page_row, status, timed, told_page
from taoemb.serving.gateway.search import Ask, NoCandidate, Searcher, Served, UnknownSignal
from taoemb.serving.traffic import ArmName

RETRY = {"retry-after": "1"}
EVENTS_A_TURN = 20  # recorded in one go: a few milliseconds
_log = logging.getLogger(__name__)
ArmHeader = Annotated[ArmName | None, Header(alias="x-taoemb-arm", description="For testers, as `arm`.")]
TokenHeader = Annotated[
    str | None, Header(alias=TESTER_HEADER, description="The testers' token: the page then says which arm it is from.")
]
_problems: dict[int | str, dict] = {
    403: {"model": Problem, "description": "Forcing an arm needs the testers' token."},
    409: {"model": Problem, "description": "The candidate is asked for and there is none."},
    429: {"model": Problem, "description": "This client sent too many."},
    503: {"model": Problem, "description": "No arm answered in time, or too many searches are under way."},
}
_body_problems: dict[int | str, dict] = {
    400: {"model": Problem, "description": "The body can't be read."},
    408: {"model": Problem, "description": "The body did not come in time."},
    413: {"model": Problem, "description": "The body is too large."},
}
_event_problems: dict[int | str, dict] = {
    403: {"model": Problem, "description": "None of the events is on a page that a gateway here served."},
    429: {"model": Problem, "description": "This client sent too many."},
    503: {"model": Problem, "description": "The gateway is starting."},
}


class ShopperRoutes:
    """`/search` and `/events`."""

    def __init__(
        self, config: GatewayConfig, searcher: Searcher, metrics: GatewayMetrics, ids: PageIds, limits: Limits
    ) -> None:
        self._config, self._searcher, self._metrics = config, searcher, metrics
        self._ids, self._limits = ids, limits
        self._under_way = 0
        self._parts = [metrics.seconds.labels(part) for part in ("total", "encoder", "search", "gateway")]
        self.rows: Rows | None = None
        """Set once the process has started."""

    def router(self) -> APIRouter:
        """The routes to include."""
        router = APIRouter(tags=["shoppers"])
        router.get("/search", response_model=Page | ToldPage, responses=_problems)(self.search)
        router.post("/search", response_model=Page | ToldPage, responses=_problems | _body_problems)(self.search_body)
        router.post("/events", status_code=202, response_model=Accepted, responses=_body_problems | _event_problems)(
            self.take
        )
        return router

    async def search(
        self,
        request: Request,
        parameters: Annotated[SearchParameters, Query()],
        arm: ArmHeader = None,
        token: TokenHeader = None,
    ) -> Response:
        """Search the catalogue."""
        return await self.answer(parameters.body(), request.scope, arm, token)

    async def search_body(
        self, request: Request, body: SearchBody, arm: ArmHeader = None, token: TokenHeader = None
    ) -> Response:
        """Search the catalogue, with all kinds of filters."""
        return await self.answer(body, request.scope, arm, token)

    async def take(self, request: Request, events: Events) -> Response:
        """Report what shoppers did on pages that they were served: one event, a list, or an object with `events`."""
        taken = [events] if isinstance(events, Event) else events.events if isinstance(events, EventBatch) else events
        rows = self.rows
        if rows is None:
            return problem(503, "starting", RETRY)
        wait_s = self._limits.events.take(_caller(request.scope).address, len(taken) - 1)  # one was taken at the door
        if wait_s:
            self._metrics.limited.labels("/events").inc()
            return too_many(wait_s)
        refused: Counter[str] = Counter()
        for number, event in enumerate(taken, start=1):
            if number % EVENTS_A_TURN == 0:
                await asyncio.sleep(0)  # searches go on between the events of a large batch
            why = self._ids.problem(event.request_id)
            if why is not None:
                refused[why] += 1
                continue
            rows.event(event_row(event))
            self._metrics.events.labels(event.type).inc()
        for reason, count in refused.items():
            self._metrics.refused_events.labels(reason).inc(count)
        if refused.total() == len(taken):
            return problem(403, "no event names a page that a gateway with this key served, not too long ago")
        return JSONResponse({"accepted": len(taken) - refused.total(), "refused": refused.total()}, 202)

    async def answer(
        self, body: SearchBody, scope: Scope, arm: ArmName | None = None, token: str | None = None
    ) -> Response:
        """The page of a search. Raises RequestValidationError for what is beyond this gateway's limits."""
        at, began = time.time(), time.perf_counter()
        forced = arm or body.arm
        if token is not None and not self._is_testers(token):
            return problem(403, f"{TESTER_HEADER} is not the testers' token; see gateway.tester_token_file")
        if forced is not None and token is None:
            return problem(403, f"forcing an arm needs the testers' token in {TESTER_HEADER}")
        if self._under_way >= self._config.concurrency:
            self._metrics.refused.inc()
            return problem(503, "too many searches are under way; try again", RETRY)
        ask = self._ask(body, _caller(scope), forced)
        self._under_way += 1
        self._metrics.under_way.inc()
        try:
            served = await self._searcher.serve(ask)
        except NoCandidate:
            return problem(409, "there is no candidate now")
        except UnknownSignal as error:
            raise _invalid("filters", str(error)) from None
        finally:
            self._under_way -= 1
            self._metrics.under_way.dec()
        return self._reply(ask, served, at, began, told=token is not None)

    def _reply(self, ask: Ask, served: Served, at: float, began: float, *, told: bool) -> Response:
        metrics, times = self._metrics, timed(served, at, time.perf_counter() - began)
        metrics.searches.labels(served.assigned, served.served, status(served)).inc()
        own_s = max(0.0, times.total_s - times.encoder_s - times.search_s)
        for part, seconds in zip(self._parts, (times.total_s, times.encoder_s, times.search_s, own_s), strict=True):
            part.observe(seconds)
        if self.rows is not None:
            self.rows.page(page_row(ask, served, times))
        if not served.rankings:
            _log.error("search %s failed: %s", ask.request_id, "; ".join(served.problems) or "no time was left")
            return problem(503, f"no arm answered within {self._config.patience_s:g} s", RETRY)
        reply = told_page(ask, served, times) if told else page(ask, served, times)
        return Response(orjson.dumps(reply), media_type="application/json")

    def _ask(self, body: SearchBody, caller: Caller, forced: ArmName | None) -> Ask:
        config, k = self._config, body.k or self._config.k
        if k > config.max_k:
            raise _invalid("k", f"at most {config.max_k} items")
        if len(body.query) > config.max_query_characters:
            raise _invalid("query", f"at most {config.max_query_characters} characters")
        request_id = self._ids.new()
        unit = body.user or body.session or request_id
        why = self._limits.unmeasured(caller, unit)
        if why is not None:
            self._metrics.unmeasured.labels(why).inc()
        signals = frozenset(body.filters.signals)
        return Ask(request_id, body.query, unit, k, expression(body.filters), signals, forced, why is None)

    def _is_testers(self, token: str) -> bool:
        file = self._config.tester_token_file
        if file is None:
            return False
        try:
            wanted = read_secret(file, "gateway.tester_token_file")
        except InputError as error:
            _log.error("%s", error)
            return False
        return hmac.compare_digest(token.encode(), wanted.encode())


def _caller(scope: Scope) -> Caller:
    return scope.get(SCOPE, OWN)


def _invalid(field: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (field,), "msg": message, "type": "value_error"}])

"""The gateway's routes for operators: health, readiness, metrics and what it obeys."""

import asyncio
import hmac
import logging
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from taoemb.errors import InputError
from taoemb.secret_file import read_secret
from taoemb.serving.gateway.arms import ArmFailure, EncoderClient
from taoemb.serving.gateway.errors import problem
from taoemb.serving.gateway.models import ArmView, Health, Problem, TrafficView
from taoemb.serving.gateway.search_pool import CHECK_S, SearchPool
from taoemb.serving.gateway.traffic_watch import TrafficWatch
from taoemb.serving.traffic import Arm, Traffic

_log = logging.getLogger(__name__)
_unready: dict[int | str, dict] = {503: {"model": Problem, "description": "Not ready, and why."}}
_refused: dict[int | str, dict] = {401: {"model": Problem, "description": "The operators' token is missing or wrong."}}


class OperatorRoutes:
    """`/healthz`, `/readyz`, `/metrics` and `/traffic`."""

    def __init__(
        self,
        watch: TrafficWatch,
        encoders: EncoderClient,
        store: SearchPool,
        registry: CollectorRegistry,
        token_file: Path | None = None,
    ) -> None:
        """`token_file`: what `/metrics` and `/traffic` ask for as a bearer token; none: nothing."""
        self._watch, self._encoders, self._store, self._registry = watch, encoders, store, registry
        self._token_file = token_file

    def router(self) -> APIRouter:
        """The routes to include."""
        router = APIRouter(tags=["operators"])
        router.get("/healthz", response_model=Health)(self.healthz)
        router.get("/readyz", response_model=Health, responses=_unready)(self.readyz)
        guarded = [Depends(self._authorize)]
        router.get("/traffic", response_model=TrafficView, responses=_unready | _refused, dependencies=guarded)(
            self.traffic
        )
        router.get("/metrics", response_class=PlainTextResponse, responses=_refused, dependencies=guarded)(self.metrics)
        return router

    def _authorize(self, authorization: Annotated[str | None, Header()] = None) -> None:
        """Raises HTTPException unless the operators' token came, where one is asked for."""
        if self._token_file is None:
            return
        try:
            wanted = f"Bearer {read_secret(self._token_file, 'gateway.operator_token_file')}"
        except InputError as error:
            _log.error("%s", error)
            wanted = ""
        if not wanted or not hmac.compare_digest((authorization or "").encode(), wanted.encode()):
            raise HTTPException(401, "needs the operators' token as a bearer token", {"www-authenticate": "Bearer"})

    async def healthz(self) -> Response:
        """Whether this process is alive."""
        return JSONResponse({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """Whether it can search now: it knows the traffic, and the control's encoder and collection answer."""
        if request.state.draining:
            return problem(503, "stopping")
        traffic = self._watch.current
        if traffic is None:
            return problem(503, f"no traffic: {self._watch.problem}")
        if not self._store.is_open:
            return problem(503, f"no vector store: {self._store.problem}")
        missing, encoder = await asyncio.gather(self._store.check(traffic.control.release), self._encoder(traffic))
        if missing:
            return problem(503, f"no vector store: {missing}")
        if encoder:
            return problem(503, f"no encoder: {encoder}")
        return JSONResponse({"status": "ready"})

    async def _encoder(self, traffic: Traffic) -> str:
        """What keeps the control's encoders from answering; empty when one answers with its release."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self._encoders.embed(traffic.control, "ready", insist=True)
        except TimeoutError:
            return f"none answered within {CHECK_S:g} s"
        except ArmFailure as failure:
            return str(failure)
        return ""

    async def traffic(self) -> Response:
        """The arms and the split that it obeys now."""
        watch, traffic = self._watch, self._watch.current
        if traffic is None:
            return problem(503, watch.problem)
        view = TrafficView(
            source=watch.source,
            read_at=watch.read_at,
            problem=watch.problem,
            rollout=traffic.rollout,
            design=traffic.design,
            percent=traffic.percent,
            salt=traffic.salt,
            control=_view(traffic.control),
            candidate=None if traffic.candidate is None else _view(traffic.candidate),
        )
        return Response(view.model_dump_json(), media_type="application/json")

    async def metrics(self) -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


def _view(arm: Arm) -> ArmView:
    return ArmView(release=arm.release, urls=list(arm.urls))

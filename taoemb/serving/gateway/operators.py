"""The gateway's routes for operators: health, readiness, metrics and what it obeys."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from taoemb.serving.gateway.errors import problem
from taoemb.serving.gateway.models import ArmView, Health, Problem, TrafficView
from taoemb.serving.gateway.search_pool import SearchPool
from taoemb.serving.gateway.traffic_watch import TrafficWatch
from taoemb.serving.traffic import Arm

_unready: dict[int | str, dict] = {503: {"model": Problem, "description": "Not ready, and why."}}


class OperatorRoutes:
    """`/healthz`, `/readyz`, `/metrics` and `/traffic`."""

    def __init__(self, watch: TrafficWatch, store: SearchPool, registry: CollectorRegistry) -> None:
        self._watch, self._store, self._registry = watch, store, registry

    def router(self) -> APIRouter:
        """The routes to include."""
        router = APIRouter(tags=["operators"])
        router.get("/healthz", response_model=Health)(self.healthz)
        router.get("/readyz", response_model=Health, responses=_unready)(self.readyz)
        router.get("/traffic", response_model=TrafficView, responses=_unready)(self.traffic)
        router.get("/metrics", response_class=PlainTextResponse)(self.metrics)
        return router

    async def healthz(self) -> Response:
        """Whether this process is alive."""
        return JSONResponse({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """Whether it can search: it knows the traffic, its vector store is open, it is not stopping."""
        if request.state.draining:
            return problem(503, "stopping")
        if self._watch.current is None:
            return problem(503, f"no traffic: {self._watch.problem}")
        if not self._store.is_open:
            return problem(503, f"no vector store: {self._store.problem}")
        return JSONResponse({"status": "ready"})

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

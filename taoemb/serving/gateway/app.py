"""The search gateway as an ASGI application: its parts, put together and started and stopped with the process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client import REGISTRY, CollectorRegistry

from taoemb import __version__
from taoemb.config import GatewayConfig, KServeConfig
from taoemb.hosting.pauses import spare_what_stays
from taoemb.hosting.trace import Trace
from taoemb.serving.gateway.arms import ArmFailure, EncoderClient
from taoemb.serving.gateway.callers import ClientLimits, Limits
from taoemb.serving.gateway.errors import refuse
from taoemb.serving.gateway.limits import BodyLimit
from taoemb.serving.gateway.metrics import gateway_metrics
from taoemb.serving.gateway.operators import OperatorRoutes
from taoemb.serving.gateway.page_ids import PageIds
from taoemb.serving.gateway.quick import QuickSearch
from taoemb.serving.gateway.record import Rows
from taoemb.serving.gateway.search import Searcher
from taoemb.serving.gateway.search_pool import SearchPool, Store
from taoemb.serving.gateway.shoppers import ShopperRoutes
from taoemb.serving.gateway.traffic_watch import TrafficWatch
from taoemb.serving.traffic import Traffic

WARM_S = 5.0
DESCRIPTION = "Searches a catalogue with the release that a shopper's arm of the rollout serves."


def create_app(
    config: GatewayConfig,
    open_store: Callable[[], Store],
    open_rows: Callable[[], Rows],
    ids: PageIds,
    exposed: CollectorRegistry = REGISTRY,
    kserve: KServeConfig | None = None,
) -> FastAPI:
    """The application. `open_store` and `open_rows` are called in a thread at its start; `ids` signs request ids;
    `/metrics` shows `exposed`."""
    metrics = gateway_metrics(REGISTRY)
    encoders = EncoderClient(config.encoder_timeout_s, 2 * config.concurrency, on_wrong_release=metrics.mismatches.inc)
    store = SearchPool(open_store, config.search_threads, config.search_timeout_s)

    def changed(traffic: Traffic) -> None:
        metrics.percent.set(traffic.percent)
        for arm in (traffic.control, traffic.candidate):
            if arm is not None:
                store.prepare(arm.release)

    watch = TrafficWatch(config.traffic, config.poll_s, changed, kserve)
    watch.on_read = metrics.traffic_read.set
    limits = Limits(config)
    shoppers = ShopperRoutes(config, Searcher(config, watch, encoders, store, metrics), metrics, ids, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        rows = await asyncio.to_thread(open_rows)
        shoppers.rows = rows
        store.start()
        await watch.start()
        await store.wait(WARM_S)
        if store.is_open and watch.current is not None:
            with suppress(ArmFailure):
                await store.bound(watch.current.control.release)
        spare_what_stays()
        yield {"draining": False}
        watch.stop()
        await store.close()
        await encoders.close()
        await asyncio.to_thread(rows.close)

    app = FastAPIOffline(  # /docs without a content network: shops' clusters often reach none
        redoc_url=None, title="taoemb search gateway", version=__version__, description=DESCRIPTION, lifespan=lifespan
    )
    app.add_middleware(QuickSearch, answer=shoppers.answer)
    app.add_middleware(BodyLimit, most=int(config.max_body_mb * 1e6))
    app.add_middleware(ClientLimits, limits=limits, limited=metrics.limited)
    app.add_middleware(Trace)
    app.add_exception_handler(RequestValidationError, refuse)
    app.include_router(shoppers.router())
    app.include_router(OperatorRoutes(watch, encoders, store, exposed, config.operator_token_file).router())
    return app

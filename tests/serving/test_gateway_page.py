"""The gateway's OpenAPI page opens in Chromium with nothing but the gateway."""

from playwright.sync_api import Browser

from taoemb.serving.traffic import Traffic
from tests.rollout.browser import browser
from tests.serving.gateway_shop import Shop, StubEncoder, running_gateway

__all__ = ["browser"]


def test_the_page_shows_the_routes_and_loads_nothing_from_elsewhere(
    browser: Browser, gateway_shop: Shop, gateway_encoders: dict[str, StubEncoder], tmp_path
) -> None:
    traffic = Traffic(gateway_encoders["base"].arm)
    with running_gateway(tmp_path, gateway_shop.copy(tmp_path), traffic) as gateway:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{gateway.url}/docs")
        page.get_by_text("/search", exact=True).first.wait_for(timeout=60_000)
        page.close()
    assert asked
    elsewhere = [url for url in asked if not url.startswith((gateway.url, "data:"))]
    assert elsewhere == []

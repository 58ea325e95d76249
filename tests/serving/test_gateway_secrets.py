"""A real gateway with known secrets, and everything going wrong: none is in its log, its replies or its files."""

from pathlib import Path

import httpx

from taoemb.serving.traffic import Traffic
from tests.serving.gateway_shop import Shop, StubEncoder, running_gateway

SECRET = "S3CRET-tulip-77"


def test_no_server_shows_a_secret_in_its_log_its_replies_or_its_files(
    gateway_shop: Shop,
    gateway_encoders: dict[str, StubEncoder],
    tmp_path: Path,
) -> None:
    """The database is away, an encoder fails, a token is wrong, the traffic breaks: the things that are logged."""
    url = tmp_path / "url"
    url.write_text(f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:1/shop?sslpassword={SECRET}")
    (tmp_path / "pages").write_text(SECRET * 2)
    traffic = Traffic(gateway_encoders["base"].arm, gateway_encoders["other"].arm, 50.0, rollout="r", salt="s")
    settings = [f"events.url_file={url}", "events.timeout_s=1", f"gateway.page_key_file={tmp_path / 'pages'}"]
    settings.append(f"gateway.tester_token_file={tmp_path / 'tester'}")
    (tmp_path / "tester").write_text(SECRET)
    with running_gateway(tmp_path / "gateway", gateway_shop.copy(tmp_path), traffic, *settings) as gateway:
        said = []
        gateway_encoders["other"].fault = "status"
        for token in (SECRET, f"{SECRET}x"):
            headers = {"x-taoemb-tester": token}
            body = {"query": "sofa", "arm": "candidate"}
            said.append(httpx.post(f"{gateway.url}/search", json=body, headers=headers, timeout=60).text)
        said += [httpx.post(f"{gateway.url}/search", json={"query": f"sofa {n}"}, timeout=60).text for n in range(8)]
        gateway_encoders["other"].fault = ""
        gateway.traffic_file.write_text("{")
        for route in ("traffic", "metrics", "readyz", "openapi.json"):
            said.append(httpx.get(f"{gateway.url}/{route}", timeout=60).text)
        files = [file for file in gateway.folder.rglob("*") if file.is_file() and file.name != "url"]
    log = gateway.log.read_text()
    assert "events database postgresql" in log, "the outage was logged"
    assert "answered 500" in log, "the encoder's failure was logged"
    assert SECRET not in log + "".join(said)
    assert [file for file in files if SECRET in file.read_text(errors="replace")] == []

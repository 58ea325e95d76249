"""`helm test`: the gateway is ready, its control answers with the release it names, and a search comes back."""

import sys
from pathlib import Path

import httpx

token = Path("/etc/taoemb/operator/token")
headers = {"authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}
gateway = httpx.Client(base_url=sys.argv[1], timeout=10, trust_env=False, headers=headers)
gateway.get("/readyz").raise_for_status()
control = gateway.get("/traffic").raise_for_status().json()["control"]
asked = {"model": "encoder", "input": "test"}
encoder = httpx.post(f"{control['urls'][0]}/openai/v1/embeddings", json=asked, timeout=10, trust_env=False)
served = encoder.raise_for_status().headers["x-taoemb-release"]
if served != control["release"]:
    sys.exit(f"the control's encoder serves {served}, the gateway expects {control['release']}")
page = gateway.get("/search", params={"query": "test", "session": "helm-test"}).raise_for_status().json()
print(f"release {served} serves; a search came back with {len(page['items'])} items")

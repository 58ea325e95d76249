"""One search of a tester through the gateway: the proof that a candidate's encoder and collection work together."""

import httpx

from taoemb.config import GatewayConfig
from taoemb.errors import TaoembError
from taoemb.secret_file import tester_headers

_BEYOND_S = 3.0  # the gateway's own patience


def search_as_tester(gateway: str, config: GatewayConfig, release: str) -> None:
    """Search at the gateway's base URL, forced onto the candidate. The page is not measured.

    Raises TaoembError unless the candidate itself answers, with that release (and so from the collection bound to it).
    """
    url = f"{gateway}/search"
    body = {"query": "read back", "arm": "candidate", "k": 1}
    try:
        headers = tester_headers(config.tester_token_file)
        answer = httpx.post(url, json=body, headers=headers, timeout=config.patience_s + _BEYOND_S, trust_env=False)
        answer.raise_for_status()
        page = answer.json()
    except httpx.HTTPStatusError as refusal:
        raise TaoembError(f"the gateway can't search with the candidate yet: {refusal.response.text}") from None
    except (httpx.HTTPError, ValueError) as error:
        raise TaoembError(f"{url}: {str(error) or type(error).__name__}") from None
    if (page["served"], page["release"]) != ("candidate", release):
        raise TaoembError(
            f"a search for the candidate was answered by {page['served']} ({page['release'][:16]}); see the gateway's "
            "log, and whether the release is published"
        )

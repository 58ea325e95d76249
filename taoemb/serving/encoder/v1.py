"""KServe's V1 protocol: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol."""

from collections.abc import Mapping

from starlette.responses import Response

from taoemb.serving.encoder.model import Embedded
from taoemb.serving.encoder.protocols import (
    Asked,
    Protocol,
    Served,
    check_name,
    check_texts,
    json_reply,
    plain_error,
    read_json,
)


def read(served: Served, name: str | None, body: bytes, headers: Mapping[str, str]) -> Asked:
    """`{"instances": [text…]}`."""
    check_name(served, name)

    def reply(embedded: Embedded) -> Response:
        return json_reply({"predictions": embedded.vectors_ND, "release": served.digest})

    return Asked(check_texts(read_json(body).get("instances"), "instances"), reply)


V1 = Protocol("v1", read, plain_error)

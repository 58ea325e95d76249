"""The Open Inference (V2) protocol with its binary tensor extension.

https://github.com/kserve/open-inference-protocol and Triton's "Binary Tensor Data Extension": after a JSON part of
`Inference-Header-Content-Length` bytes follow raw tensors; an element of a BYTES tensor stands behind its length
(4 bytes, little-endian).
"""

import struct
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from taoemb.errors import InputError
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

INPUT, OUTPUT = "text", "embedding"
JSON_LENGTH = "inference-header-content-length"
_LENGTH = struct.Struct("<I")


def read(served: Served, name: str | None, body: bytes, headers: Mapping[str, str]) -> Asked:
    """One BYTES tensor `text` of shape [N] or [N, 1], as JSON or behind it as raw bytes."""
    check_name(served, name)
    head = _json_length(headers, len(body))
    tree = read_json(body[:head])
    texts = _texts(_only_input(tree), body[head:])
    identifier = tree.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InputError("id: expected a string")
    binary = _wants_binary(tree)
    return Asked(texts, lambda embedded: _reply(served, identifier, embedded, binary=binary))


def _json_length(headers: Mapping[str, str], whole: int) -> int:
    given = headers.get(JSON_LENGTH)
    if given is None:
        return whole
    if not (given.isascii() and given.isdigit() and len(given) < 12 and int(given) <= whole):
        raise InputError(f"{JSON_LENGTH}: expected the length of the JSON part, at most that of the body")
    return int(given)


def _only_input(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = tree.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise InputError(f"inputs: expected one tensor, named {INPUT!r}")
    [tensor] = inputs
    if tensor.get("name") != INPUT:
        raise InputError(f"inputs[0].name: expected {INPUT!r}")
    if tensor.get("datatype") != "BYTES":
        raise InputError("inputs[0].datatype: expected BYTES")
    return tensor


def _texts(tensor: Mapping[str, Any], raw: bytes) -> list[str]:
    size = _parameters(tensor, "inputs[0]").get("binary_data_size")
    if size is None:
        given = tensor.get("data")
        if isinstance(given, list) and given and all(isinstance(row, list) and len(row) == 1 for row in given):
            given = [row[0] for row in given]
        texts = check_texts(given, "inputs[0].data")
    elif isinstance(size, int) and not isinstance(size, bool) and size == len(raw):
        texts = _unpack(raw)
    else:
        raise InputError(f"inputs[0].parameters.binary_data_size: {len(raw)} bytes follow the JSON part")
    if tensor.get("shape") not in ([len(texts)], [len(texts), 1]):
        raise InputError(f"inputs[0].shape: expected [{len(texts)}], the number of texts")
    return texts


def _unpack(raw: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(raw):
        start = at + _LENGTH.size
        if start > len(raw):
            raise InputError("inputs[0]: the raw tensor ends inside a length")
        at = start + _LENGTH.unpack_from(raw, at)[0]
        if at > len(raw):
            raise InputError("inputs[0]: the raw tensor ends inside a text")
        try:
            texts.append(raw[start:at].decode())
        except UnicodeDecodeError:
            raise InputError(f"inputs[0]: text {len(texts)} is not UTF-8") from None
    return check_texts(texts, "inputs[0]")


def _wants_binary(tree: Mapping[str, Any]) -> bool:
    binary = _parameters(tree, "the request").get("binary_data_output", False)
    outputs = tree.get("outputs")
    if outputs is not None:
        if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
            raise InputError(f"outputs: expected one tensor, named {OUTPUT!r}")
        if outputs[0].get("name") != OUTPUT:
            raise InputError(f"outputs[0].name: expected {OUTPUT!r}")
        binary = _parameters(outputs[0], "outputs[0]").get("binary_data", binary)
    return binary is True


def _parameters(tree: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = tree.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InputError(f"{where}: parameters must be an object")
    return parameters


def _reply(served: Served, identifier: str | None, embedded: Embedded, *, binary: bool) -> Response:
    vectors_ND = embedded.vectors_ND
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(vectors_ND.shape)}
    tree = {"model_name": served.name, "id": identifier, "parameters": {"release": served.digest}, "outputs": [output]}
    if identifier is None:
        del tree["id"]
    if not binary:
        output["data"] = vectors_ND.reshape(-1)
        return json_reply(tree)
    raw = vectors_ND.astype("<f4").tobytes()
    output["parameters"] = {"binary_data_size": len(raw)}
    head = bytes(json_reply(tree).body)
    return Response(head + raw, headers={JSON_LENGTH: str(len(head))}, media_type="application/octet-stream")


V2 = Protocol("v2", read, plain_error)

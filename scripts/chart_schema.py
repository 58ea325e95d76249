"""The strict JSON schema of the chart's values: closed everywhere, the settings' part from the settings tree itself."""

from collections.abc import Sequence
from typing import Any

from scripts.chart_values import Value
from taoemb.config import (
    ControllerConfig,
    EncoderServerConfig,
    EventsConfig,
    GatewayConfig,
    JudgeConfig,
    JudgeServerConfig,
    KServeConfig,
    LogsConfig,
    MilvusConfig,
)

Json = dict[str, Any]
SETTINGS = {
    "gateway": GatewayConfig,
    "encoder_server": EncoderServerConfig,
    "judge_server": JudgeServerConfig,
    "controller": ControllerConfig,
    "milvus": MilvusConfig,
    "events": EventsConfig,
    "logs": LogsConfig,
    "kserve": KServeConfig,
    "judge": JudgeConfig,
    "heldout_judge": JudgeConfig,
}
_TEXT = {"type": "string"}
_STRINGS = {"type": "object", "additionalProperties": _TEXT}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def _closed(required: Sequence[str] = (), **properties: Any) -> Json:
    made: Json = {"type": "object", "additionalProperties": False, "properties": properties}
    return made | ({"required": list(required)} if required else {})


_SELECTOR = _closed(
    matchLabels=_STRINGS,
    matchExpressions={
        "type": "array",
        "items": _closed(
            ["key", "operator"],
            key=_TEXT,
            operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
            values={"type": "array", "items": _TEXT},
        ),
    },
)
_AMOUNTS = {"type": "object", "minProperties": 2, "required": ["cpu", "memory"]} | {
    "additionalProperties": {"$ref": "#/definitions/quantity"}
}
DEFINITIONS: Json = {
    "strings": _STRINGS,
    "quantity": {"type": ["string", "integer"], "pattern": "^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"},
    "resources": _closed(["requests", "limits"], requests=_AMOUNTS, limits=_AMOUNTS),
    "tolerations": {
        "type": "array",
        "items": _closed(
            key=_TEXT,
            operator={"enum": ["Exists", "Equal"]},
            value=_TEXT,
            effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            tolerationSeconds={"type": "integer"},
        ),
    },
    "tag": {"type": "string", "not": {"enum": ["latest"]}},
    "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "url": {"type": "string", "pattern": "^(https?://[^ ]+)?$"},
    "ports": {"type": "array", "minItems": 1, "items": _PORT},
    "peers": {
        "type": "array",
        "items": _closed(
            podSelector=_SELECTOR,
            namespaceSelector=_SELECTOR,
            ipBlock=_closed(["cidr"], cidr=_TEXT, **{"except": {"type": "array", "items": _TEXT}}),
        ),
    },
    "parentRef": _closed(["name"], group=_TEXT, kind=_TEXT, namespace=_TEXT, name=_TEXT, sectionName=_TEXT, port=_PORT),
    "subject": _closed(
        ["kind", "name"],
        kind={"enum": ["ServiceAccount", "User", "Group"]},
        name=_TEXT,
        namespace=_TEXT,
        apiGroup=_TEXT,
    ),
}


def schema_of(values: Sequence[Value]) -> Json:
    """The schema of values.yaml."""
    root = _closed(**{"global": {"type": "object", "description": "Helm's own, for parent charts."}})
    for value in values:
        node = root
        for part in value.path[:-1]:
            node = node["properties"].setdefault(part, _closed())
        node["properties"][value.path[-1]] = {"description": value.text, **value.schema}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the taoemb chart"}
    return head | root | {"definitions": DEFINITIONS | {"settings": _settings()}}


def _settings() -> Json:
    """The sections of the settings tree; what is not given has its default there."""
    sections = {}
    for name, model in SETTINGS.items():
        tree = model.model_json_schema()
        assert "$defs" not in tree, "these sections have no inner sections"
        sections[name] = _lean(tree)
    return _closed(**sections)


def _lean(node: Any) -> Any:
    """A schema without the defaults and titles, which docs/configuration.md has."""
    if isinstance(node, dict) and "properties" in node:
        return {
            key: {name: _lean(entry) for name, entry in value.items()} if key == "properties" else value
            for key, value in node.items()
            if key not in ("title", "description")
        }
    if isinstance(node, dict):
        return {key: value for key, value in node.items() if key not in ("title", "default", "description")}
    return node

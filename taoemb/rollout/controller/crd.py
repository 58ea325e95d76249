"""The CustomResourceDefinition of EncoderRollout, made from the Plan class so that the two can't drift apart.

What only Kubernetes knows is added here: bounds that keep the CEL rules cheap, and the rules themselves.
"""

from collections.abc import Mapping
from typing import Any, get_args

from taoemb.rollout.controller.resource import GROUP, KIND, PLURAL, VERSION, camel, plan_to_spec
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import Action, Phase
from taoemb.rollout.verdict import Outcome
from taoemb.serving.kube import Json

_ITEMS = {"steps": 20}
_LETTERS = {"slice": 128, "name": 128}
_MOST_ITEMS, _MOST_LETTERS, _PATH_LETTERS = 50, 256, 1024
_KEPT = ("type", "enum", "description", "minimum", "maximum", "minLength")
_INDEXES = list(range(_ITEMS["steps"] - 1))
_NAMES_DIFFER = "self.all(one, self.exists_one(other, other.name == one.name))"
_NAMES_ARE_FREE = "self.all(one, one.name != 'all' && !one.name.contains('*'))"
_ROOM_FOR_CONTROL = (
    "(has(self.design) && self.design == 'interleaving') || !has(self.steps) || self.steps.all(one, one.percent < 100)"
)
_GUARDED_IS_THERE = (
    "has(self.sliceQueries) || !has(self.guardrails) || self.guardrails.all(one, !has(one.slice) || one.slice == 'all'"
    " || one.slice.contains('*') || (has(self.slices) && self.slices.exists(rule, rule.name == one.slice)))"
)
_STEPS_GROW = f"{_INDEXES}.all(i, i + 1 >= self.size() || self[i].percent < self[i + 1].percent)"
_COLUMNS = (
    ("Phase", "string", ".status.phase"),
    ("Step", "string", ".status.step"),
    ("Percent", "integer", ".status.percent"),
    ("Units", "integer", ".status.units"),
    ("Outcome", "string", ".status.outcome"),
    ("Service", "string", ".spec.inferenceService"),
    ("Age", "date", ".metadata.creationTimestamp"),
    ("Reason", "string", ".status.reason"),
)


def definition() -> Json:
    """The whole object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ero"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path} for name, kind, path in _COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _root() -> Json:
    return _object(
        "The rollout of one encoder release on one InferenceService: a canary, measured online, with a verdict.",
        {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _spec(),
            "status": _status(),
        },
        ["spec"],
    )


def _spec() -> Json:
    request = _object(
        "What a person decides; obeyed once, whatever was measured.",
        {
            "action": {"type": "string", "enum": list(get_args(Action))},
            "reason": _text("Why; kept for audit.", 1024, least=1),
        },
        ["action", "reason"],
    )
    candidate = _object(
        "The release to roll out.",
        {
            "release": _text("Digest that its encoders must answer with.", 64) | {"pattern": "^[0-9a-f]{64}$"},
            "storageUri": _text("Where KServe loads it from.", 2048, least=1),
        },
        ["release", "storageUri"],
    )
    fixed = "is part of what is measured and can't be changed; make another EncoderRollout"
    return _object(
        "What is rolled out, where, and by which plan.",
        {
            "inferenceService": _rule(
                _text("Name of the InferenceService, in this namespace.", 40, least=1)
                | {"pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
                "self == oldSelf",
                f"inferenceService {fixed}",
            ),
            "candidate": _rule(candidate, "self == oldSelf", f"candidate {fixed}"),
            "plan": _rule(_plan(), "self == oldSelf", f"plan {fixed}"),
            "request": request,
            "paused": {
                "type": "boolean",
                "description": "Hold it where it is: no step and no promotion; looks go on, and what harms goes back.",
            },
            "pauseReason": _text("Why it was paused or resumed; kept for audit.", 1024),
        },
        ["inferenceService", "candidate"],
    )


def _plan() -> Json:
    found = Plan.model_json_schema()
    schema = _structural(found, found["$defs"])
    defaults = plan_to_spec(Plan())
    for name, entry in schema["properties"].items():
        if name in defaults:
            entry["default"] = defaults[name]
    steps = schema["properties"]["steps"]
    steps["minItems"] = 1
    steps["items"]["properties"]["percent"] = {
        "type": "integer",
        "description": "The candidate's share of the units; KServe splits in whole percents.",
        "minimum": 1,
        "maximum": 100,
    }
    _rule(steps, _STEPS_GROW, "percent must grow from step to step")
    _rule(
        schema,
        f"{_is('design', 'interleaving')} == {_is('metric', 'preference')}",
        "design interleaving and metric preference go together",
    )
    _rule(schema, _ROOM_FOR_CONTROL, "steps: 100 % leaves no control to compare with")
    _rule(schema, _GUARDED_IS_THERE, "guardrails: a slice that neither slices nor sliceQueries names")
    slices = schema["properties"]["slices"]
    _rule(slices, _NAMES_DIFFER, "slices: two have the same name")
    _rule(slices, _NAMES_ARE_FREE, "slices: a name is neither all nor holds a *")
    schema["default"] = {}
    return schema


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any], name: str = "") -> Json:
    """Pydantic's JSON schema as Kubernetes wants it: no references, no null, boolean exclusive bounds, camelCase."""
    if "$ref" in node:
        return _structural(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions, name)
    if "anyOf" in node:
        (node,) = [{**node, **one} for one in node["anyOf"] if one.get("type") != "null"]
    made: Json = {key: node[key] for key in _KEPT if key in node}
    for limit in ("Minimum", "Maximum"):
        if f"exclusive{limit}" in node:
            made |= {limit.lower(): node[f"exclusive{limit}"], f"exclusive{limit}": True}
    if node["type"] == "object":
        made["properties"] = {camel(key): _field(key, one, definitions) for key, one in node["properties"].items()}
        if "required" in node:
            made["required"] = [camel(key) for key in node["required"]]
    elif node["type"] == "array":
        made |= {"maxItems": _ITEMS.get(name, _MOST_ITEMS), "items": _structural(node["items"], definitions)}
    elif node["type"] == "string" and "enum" not in node:
        made["maxLength"] = _PATH_LETTERS if node.get("format") == "path" else _LETTERS.get(name, _MOST_LETTERS)
    return made


def _field(name: str, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Json:
    made = _structural(node, definitions, name)
    if node.get("default") is not None and made["type"] not in ("object", "array"):
        made["default"] = node["default"]
    return made


def _status() -> Json:
    text: Json = {"type": "string"}
    reason = _object("", {"check": text, "pointsTo": text, "text": text}, ["check", "pointsTo", "text"])
    condition = _object(
        "",
        {
            "type": _text("", 316),
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": _text("", 1024, least=1),
            "message": _text("", 32768),
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        },
        ["type", "status", "reason", "message", "lastTransitionTime"],
    )
    return _object(
        "Written by the controller alone.",
        {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "phase": {"type": "string", "enum": list(get_args(Phase))},
            "step": {"type": "string", "description": "Which of how many, e.g. 2/4."},
            "percent": {"type": "integer", "description": "The candidate's share now."},
            "outcome": {"type": "string", "enum": [*get_args(Outcome), "failed"]},
            "rollout": {"type": "string", "description": "Its name in the events database."},
            "control": {"type": "string", "description": "Digest of the control, as it was read back."},
            "message": text,
            "reason": {"type": "string", "description": "The message, short enough for a column."},
            "units": {"type": "integer", "format": "int64", "description": "Measured in this step by the last look."},
            "looks": {"type": "integer", "format": "int32"},
            "lastLook": {"type": "string", "format": "date-time"},
            "reasons": {
                "type": "array",
                "description": "Of the last verdict, in words and numbers.",
                "items": reason,
                "x-kubernetes-list-type": "atomic",
            },
            "obeyed": _object("The last request that was obeyed.", {"action": text, "reason": text}, []),
            "conditions": {
                "type": "array",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
            "state": {
                "type": "object",
                "description": "All that the controller remembers (taoemb.rollout.state).",
                "x-kubernetes-preserve-unknown-fields": True,
            },
        },
        [],
    )


def _object(description: str, properties: Mapping[str, Any], required: list[str]) -> Json:
    made: Json = {"type": "object", "properties": dict(properties)}
    if description:
        made["description"] = description
    if required:
        made["required"] = required
    return made


def _text(description: str, longest: int, least: int = 0) -> Json:
    made: Json = {"type": "string", "maxLength": longest}
    if description:
        made["description"] = description
    if least:
        made["minLength"] = least
    return made


def _is(field: str, value: str) -> str:
    """A CEL condition on a field that may be absent.

    An API server also runs the rules on each default as it is written, before the defaults inside it are filled in, and
    refuses the whole definition when a rule reads a field that is not there.
    """
    return f"(has(self.{field}) && self.{field} == '{value}')"


def _rule(schema: Json, rule: str, message: str) -> Json:
    schema.setdefault("x-kubernetes-validations", []).append({"rule": rule, "message": message})
    return schema

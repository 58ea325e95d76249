"""How servers log: each line with its time and level, for people or as JSON for a log store; one way for all of them.

uvicorn's and KServe's loggers speak through the same handler, else a server's lines would come in three forms.
"""

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any, Literal

from taoemb.hosting.trace import trace_headers
from taoemb.plain import one_line

Form = Literal["text", "json"]
FIELDS = "fields"
"""`_log.warning(…, extra={FIELDS: {"request_id": …}})`: keys of their own in JSON, words behind the message in text."""


class TextFormatter(logging.Formatter):
    """`2026-11-29T08:11:14.052Z WARNING taoemb.serving.gateway.arms: message key=value`, and a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        words = [f"{key}={value}" for key, value in _fields(record).items()]
        said = " ".join([one_line(record.getMessage()), *map(one_line, words)])
        line = f"{_time(record)} {record.levelname} {record.name}: {said}"
        return line if not record.exc_info else f"{line}\n{self.formatException(record.exc_info)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, exception, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        tree = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            tree["exception"] = self.formatException(record.exc_info)
        return json.dumps(tree, default=str)


def log_config(form: Form = "text", level: str = "info") -> dict[str, Any]:
    """For logging.config.dictConfig, here and in uvicorn's worker processes."""
    formatter = JsonFormatter if form == "json" else TextFormatter
    level = level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": f"{formatter.__module__}.{formatter.__qualname__}"}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"},
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "taoemb": {"level": level},
            "uvicorn": {"level": level, "handlers": []},
            "uvicorn.error": {"level": level},
            "uvicorn.access": {"level": "WARNING"},
            # A handler of its own: KServe brings its own form where its logger has none.
            "kserve": {"level": level, "handlers": ["stderr"], "propagate": False},
            "kserve.trace": {"level": "WARNING"},
        },
    }


def configure_logs(form: Form = "text", level: str = "info") -> None:
    """Let this process log so."""
    logging.config.dictConfig(log_config(form, level))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {**trace_headers(), **(record.__dict__.get(FIELDS) or {})}

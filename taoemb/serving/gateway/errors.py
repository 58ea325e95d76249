"""How the gateway says that it does not answer."""

import json

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse


def problem(code: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says why there is no other."""
    return JSONResponse({"detail": detail}, code, headers)


def refuse(request: Request, error: Exception) -> Response:
    """A request that does not fit its types: where and why, without what was sent (it may not even be Unicode)."""
    assert isinstance(error, RequestValidationError)
    detail = [{"loc": one["loc"], "msg": one["msg"], "type": one["type"]} for one in error.errors()[:20]]
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")

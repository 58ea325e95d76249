"""The server that most teams write first: FastAPI around SentenceTransformer, one `encode` a request.

    python -m benchmarks.rivals.plain_server MODEL --port PORT [--dtype bfloat16]

FastAPI runs a `def` endpoint in its thread pool. The route and the reply are OpenAI's.
"""

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Embeddings(BaseModel):
    """The request."""

    model: str
    input: str | list[str]


def create_app(model: SentenceTransformer) -> FastAPI:
    """The application."""
    app = FastAPI()

    @app.post("/embeddings")
    def embeddings(asked: Embeddings) -> dict:
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        vectors = model.encode(texts, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
        rows = vectors.float().tolist()
        data = [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(rows)]
        return {"object": "list", "model": asked.model, "data": data}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8091)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    loaded = SentenceTransformer(told.model, device="cpu", model_kwargs={"dtype": told.dtype})
    uvicorn.run(create_app(loaded), port=told.port, log_level="warning", access_log=False)

"""The smallest web service people write around sentence-transformers; run inside the peer's own environment."""

import os

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

torch.set_num_threads(int(os.environ.get("PEER_THREADS", "2")))
model = SentenceTransformer(os.environ["PEER_MODEL"], device="cpu")
app = FastAPI()


class Texts(BaseModel):
    """What /embed takes."""

    inputs: list[str]


@app.get("/health")
def health() -> dict[str, bool]:
    """Answers once the model is there."""
    return {"ok": True}


@app.post("/embed")
def embed(body: Texts) -> list[list[float]]:
    """In a thread of the framework's pool, as `def` handlers are."""
    return model.encode(body.inputs, normalize_embeddings=True).tolist()


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), log_level="warning")

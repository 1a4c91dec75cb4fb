"""The services gpuctl deploys: embedder, reranker, FAISS index, and the keeper that holds their sockets."""

__version__ = "0.1.0"

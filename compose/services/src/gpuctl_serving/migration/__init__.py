"""Takes an existing FAISS file with its documents into the index."""

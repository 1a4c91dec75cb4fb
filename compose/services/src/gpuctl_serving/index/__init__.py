"""The vector index service: SQLite is the truth, FAISS a copy in memory made from it."""

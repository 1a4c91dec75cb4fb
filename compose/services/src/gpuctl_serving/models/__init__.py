"""Models: fetched by hash, turned into ONNX without PyTorch, kept in a store of unchanging directories."""

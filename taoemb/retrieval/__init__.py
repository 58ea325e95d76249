"""Finding items: the exact bank used in training, the BM25 route, and the Milvus store that serves."""

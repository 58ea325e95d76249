"""Grading (query, item) pairs: the prompt, the client with its cache, and the judge server."""

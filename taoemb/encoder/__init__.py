"""Texts to vectors: templates, tokens, pooling, the model, and the release folder that pins them all."""

"""The query encoder behind KServe's model server: protocols, batching, backends."""

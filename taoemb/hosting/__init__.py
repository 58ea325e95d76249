"""What the servers of models (judge, query encoder) share: KServe in a plain process, batching, small HTTP parts."""

"""Rolling out on KServe: Standard canaries and Knative splits."""

"""Where work runs: training on local processes or a cluster, pipelines on this machine or on Kubeflow Pipelines."""

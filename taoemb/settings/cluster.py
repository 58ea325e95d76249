"""Settings of Kubernetes: KServe, the rollout controller, jobs."""

from typing import Any, Literal

from pydantic import Field, model_validator

from taoemb.settings.section import Section


class KServeConfig(Section):
    """Where the encoders of an InferenceService answer; read by the gateway (kserve://…) and by rollouts."""

    service_url: str = Field(
        "http://{service}.{namespace}.svc.cluster.local",
        description="Address of a Service; {service} and {namespace} are put in. Another one for port-forwards.",
    )
    model: str = Field("encoder", description="Name that the encoders serve the model under.")
    timeout_s: float = Field(3.0, gt=0, description="Of one call that reads a digest back, or of the API server.")


class ControllerConfig(Section):
    """`taoemb rollout controller`."""

    poll_s: float = Field(5.0, gt=0, description="How often each EncoderRollout is looked at.")
    abort_s: float = Field(
        1.0, gt=0, description="How often it looks for candidates that are wanted back, beside looks under way."
    )
    workers: int = Field(4, ge=1, description="EncoderRollouts worked on at once.")
    backoff_s: float = Field(300.0, gt=0, description="Longest wait after failures of one EncoderRollout.")
    lease: str = Field("taoemb-rollout-controller", description="Name of the Lease that elects one of the replicas.")
    lease_namespace: str = Field("", description="Its namespace; empty: the controller's own.")
    lease_s: float = Field(15.0, gt=0, description="A leader that is silent for so long has lost it.")
    renew_s: float = Field(10.0, gt=0, description="A leader that could not renew for so long stops working.")
    retry_s: float = Field(2.0, gt=0, description="Time between two tries to renew or to get it.")
    port: int = Field(8085, ge=0, le=65535, description="Of /healthz, /readyz and /metrics; 0: any free one.")
    host: str = Field("127.0.0.1", description="Address that they listen on; 0.0.0.0 in a pod.")

    @model_validator(mode="after")
    def _lease_outlives_renewals(self) -> "ControllerConfig":
        if not self.retry_s < self.renew_s < self.lease_s:
            raise ValueError("give retry_s < renew_s < lease_s")
        return self


class JobConfig(Section):
    """Where training and bulk embedding run: on this machine, or as jobs on a Kubernetes cluster."""

    backend: Literal["local", "trainjob"] = Field(
        "local", description="`local`: processes here; `trainjob`: Kubeflow Trainer (bulk embedding: an indexed Job)."
    )
    ranks: int | None = Field(
        None, ge=1, description="Processes that train together on a machine, or embed at once; default: gpus, else 1."
    )
    nodes: int = Field(1, ge=1, description="Machines of a TrainJob; pods of bulk embedding at once.")
    gpus: int = Field(0, ge=0, description="GPUs a machine.")
    gpu_resource: str = "nvidia.com/gpu"
    cpu: int | float | str | None = Field(None, description="CPUs of a machine, e.g. 8; default: the runtime's.")
    memory: str | None = Field(
        None, description="Its memory, e.g. 64Gi; gpus, cpu and memory replace the runtime's together."
    )
    namespace: str = Field("", description="Default: that of the kubeconfig's context, or the pod's own.")
    runtime: str = Field("taoemb-torch", description="Training runtime; helm/taoemb makes it.")
    runtime_kind: Literal["TrainingRuntime", "ClusterTrainingRuntime"] = "TrainingRuntime"
    launcher: Literal["torchrun", "mpirun"] = Field(
        "torchrun", description="What starts the ranks: torchrun in a torch runtime, mpirun in an MPI runtime."
    )
    settings: str = Field(
        "",
        description="Settings file inside the job, below the run's own settings; the chart's runtimes have "
        "/etc/taoemb/settings/settings.yaml with the judges' addresses.",
    )
    image: str = Field("", description="Default: the runtime's; for bulk embedding this release's trainer image.")
    volumes: dict[str, str] = Field(
        default_factory=dict, description="Claims and where they are mounted, e.g. {taoemb-artefacts: /artefacts}."
    )
    secrets: dict[str, str] = Field(
        default_factory=dict, description="Secrets and where their keys stand as files, e.g. {judge-key: /secrets}."
    )
    tolerations: tuple[dict[str, Any], ...] = Field((), description="As in a pod.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that the nodes must have.")
    service_account: str = Field("", description="Default: the runtime's.")
    queue: str = Field("", description="Kueue LocalQueue; empty: none.")
    priority: str = Field("", description="Kueue WorkloadPriorityClass; a pod's PriorityClass stands in the runtime.")
    retries: int = Field(3, ge=0, description="New tries after the infrastructure failed; a failing program gets none.")
    backoff_s: float = Field(30.0, gt=0, description="Wait before the first new try; it doubles, up to ten minutes.")
    start_timeout_s: float = Field(
        900.0, gt=0, description="A pod whose image or configuration is missing for so long has failed."
    )
    grace_s: int = Field(120, ge=20, description="What a stopped pod gets to write its checkpoint.")
    poll_s: float = Field(2.0, gt=0, description="Time between two looks at a job.")

    @model_validator(mode="after")
    def _priorities_are_of_queues(self) -> "JobConfig":
        if self.priority and not self.queue:
            raise ValueError("priority is Kueue's: give queue too")
        return self

    @model_validator(mode="after")
    def _resources_are_whole(self) -> "JobConfig":
        given = {bool(self.cpu), bool(self.memory)}
        if self.backend == "trainjob" and (len(given) == 2 or (self.gpus and not self.memory)):
            raise ValueError("what a job asks for replaces the runtime's: give cpu and memory, with gpus too")
        return self

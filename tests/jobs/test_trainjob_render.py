"""The TrainJob that jobs/ renders: valid for Kubeflow Trainer's own schema and models; one line for what is wrong."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.cli.main import main
from taoemb.config import load_config
from taoemb.errors import InputError
from taoemb.jobs.training import render_training, training_work
from tests.rollout.crd_rules import need_train_jobs

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = (
    "job.backend=trainjob",
    "job.namespace=search",
    "job.nodes=2",
    "job.gpus=8",
    "job.cpu=32",
    "job.memory=256Gi",
    "job.image=registry.example/trainer@sha256:abc",
    "job.volumes={shop-data: /data, scratch: /scratch}",
    "job.secrets={judge-key: /secrets/judge}",
    "job.tolerations=[{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]",
    "job.node_selector={pool: h100}",
    "job.service_account=trainer",
    "job.queue=research",
    "job.priority=low",
    "grpo.optim.lr=1e-5",
    "judge.url=http://judge/openai/v1",
    "judge.api_key_file=/secrets/judge/token",
)
FOLDERS = (Path("/mnt/taoemb/shop"), Path("/mnt/taoemb/runs/grpo"), Path("/mnt/taoemb/runs/sft/release"))


def render(*overrides, objective="grpo"):
    config = load_config(None, overrides)
    data, out, release = FOLDERS
    return render_training(training_work(objective, data, out, release, config), config)


@pytest.mark.parametrize("launcher", ["torchrun", "mpirun"])
@pytest.mark.parametrize("overrides", [("job.backend=trainjob",), EVERYTHING], ids=["plain", "everything"])
def test_a_grpo_trainjob_has_no_unknown_field_and_breaks_no_rule(overrides, launcher):
    schema = need_train_jobs()
    body = schema.defaulted(render(*overrides, f"job.launcher={launcher}").body)
    assert schema.errors(body) == []
    assert schema.broken_rules(body) == []
    assert schema.broken_rules(body, body) == []


def test_an_unknown_field_would_be_seen():
    body = render(*EVERYTHING).body
    body["spec"]["trainer"]["processes"] = 1
    assert "processes" in "".join(need_train_jobs().errors(body))


def test_trainer_s_own_models_read_it_and_lose_nothing():
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="needs pip install 'taoemb[pipelines]'")
    body = render(*EVERYTHING).body
    read = models.TrainerV1alpha1TrainJob.from_dict(body).to_dict()
    assert read["spec"] == body["spec"]
    assert {key: read["metadata"][key] for key in body["metadata"]} == body["metadata"]


def test_it_says_what_the_settings_say():
    body = render(*EVERYTHING).body
    trainer = body["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    assert trainer["command"][-2:] == ["-m", "taoemb.training.grpo"]
    assert trainer["resourcesPerNode"]["limits"] == {"memory": "256Gi", "nvidia.com/gpu": "8"}
    (job,) = body["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]} == {
        "/data",
        "/scratch",
        "/secrets/judge",
    }
    assert {volume["name"] for volume in pod["volumes"]} == {m["name"] for m in pod["containers"][0]["volumeMounts"]}
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert "env" not in str(body)  # secrets are files


def test_its_arguments_give_the_same_settings_again():
    args = render(*EVERYTHING).body["spec"]["trainer"]["args"]
    overrides = [value for flag, value in zip(args[::2], args[1::2], strict=True) if flag == "--set"]
    again, first = load_config(None, overrides), load_config(None, EVERYTHING)
    assert again.model_dump(exclude={"job"}) == first.model_dump(exclude={"job"})
    assert again.job == load_config().job  # where it runs is no part of the run


@settings(deadline=None, max_examples=50)
@given(
    text=st.none() | st.text(max_size=20),
    number=st.floats(min_value=1e-9, max_value=1e9),
    extra=st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5)),
)
def test_any_settings_travel_as_arguments(text, number, extra):
    tree = {"encoder": {"query_template": text, "lora": {}}, "sft": {"tau": number}, "engine": {"deepspeed": extra}}
    config = load_config().model_validate(tree)
    args = training_work("sft", *FOLDERS, config).args
    overrides = [value for flag, value in zip(args[::2], args[1::2], strict=True) if flag == "--set"]
    assert load_config(None, overrides).model_dump() == config.model_dump()


def test_a_settings_file_in_the_job_stands_below_the_run_s_own_settings(tmp_path):
    site = tmp_path / "settings.yaml"
    site.write_text("judge: {url: http://site/openai/v1, concurrency: 8}\ngrpo: {k: 7}\n")
    args = render("job.backend=trainjob", f"job.settings={site}", "judge.concurrency=2", "grpo.steps=5").body
    words = args["spec"]["trainer"]["args"]
    assert words[:2] == ["--config", str(site)]
    overrides = [value for flag, value in zip(words[::2], words[1::2], strict=True) if flag == "--set"]
    seen = load_config(site, overrides)
    assert (seen.judge.url, seen.judge.concurrency) == ("http://site/openai/v1", 2)
    assert (seen.grpo.k, seen.grpo.steps) == (7, 5)


def test_the_chart_s_runtimes_are_the_ones_that_it_names():
    golden = ROOT / "tests" / "helm" / "golden" / "default.yaml"
    objects = [body for body in yaml.safe_load_all(golden.read_text(encoding="utf-8")) if body]
    runtimes = {body["metadata"]["name"]: body for body in objects if body["kind"] == "TrainingRuntime"}
    for launcher, name in (("torchrun", "taoemb-torch"), ("mpirun", "taoemb-deepspeed")):
        spec = render(*EVERYTHING, f"job.runtime={name}", f"job.launcher={launcher}").body["spec"]
        assert spec["runtimeRef"]["kind"] == "TrainingRuntime"
        (patch,) = spec["runtimePatches"]
        patched = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        given = {job["name"]: job for job in runtimes[name]["spec"]["template"]["spec"]["replicatedJobs"]}
        assert {job["name"] for job in patched} == set(given)
        for job in patched:
            own = given[job["name"]]["template"]["spec"]["template"]["spec"]
            added = job["template"]["spec"]["template"]["spec"]
            assert {one["name"] for one in added["containers"]} == {one["name"] for one in own["containers"]}
            assert not {one["name"] for one in added["volumes"]} & {one["name"] for one in own["volumes"]}
    assert load_config().job.runtime in runtimes


def test_the_same_folder_is_the_same_job_and_other_settings_other_work():
    one, two = render(*EVERYTHING), render(*EVERYTHING, "grpo.k=9")
    assert one.name == two.name
    assert one.body["metadata"]["annotations"] != two.body["metadata"]["annotations"]
    other = training_work("grpo", FOLDERS[0], Path("/mnt/other"), None, load_config())
    assert other.name != one.name
    assert all(len(f"{name}-launcher-0-0") < 63 for name in (one.name, render(objective="live_infonce").name))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("job.priority=low",), "priority is kueue's: give queue too"),
        (("job.backend=trainjob", "job.gpus=1"), "give cpu and memory"),
        (("job.backend=trainjob", "job.cpu=4"), "give cpu and memory"),
        (("job.grace_s=1",), "job.grace_s"),
    ],
)
def test_settings_that_can_t_work(overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(None, overrides)


@pytest.fixture
def train(capsys):
    """`taoemb train …`; gives (exit code, standard output, standard error)."""

    def call(*args):
        with pytest.raises(SystemExit) as done:
            main(["train", *map(str, args)])
        return done.value.code, *capsys.readouterr()

    return call


def test_the_command_prints_it(train):
    data, out, release = FOLDERS
    chosen = [part for setting in EVERYTHING for part in ("--set", setting)]
    code, text, _ = train("grpo", "--data", data, "--out", out, "--release", release, *chosen, "--render")
    assert code == 0
    assert yaml.safe_load(text) == render(*EVERYTHING).body


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--render",), "--render: only a cluster has a TrainJob"),
        (("--detach",), "--detach: only a job on a cluster goes on alone"),
        (("--set", "job.nodes=2"), "more than one machine needs --set job.backend=trainjob"),
        (("--set", "job.backend=trainjob", "--out", "runs/a"), "give the absolute path on the job's volume"),
        (("--ranks", "0"), "--ranks"),
    ],
)
def test_bad_usage_is_one_line(train, args, message):
    code, _, said = train("sft", "--data", FOLDERS[0], "--out", FOLDERS[1], *args)
    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_a_judge_of_this_machine_is_refused_for_a_cluster(train):
    data, out, release = FOLDERS
    more = ("--judge", "judge", "--set", "job.backend=trainjob")
    code, _, said = train("grpo", "--data", data, "--out", out, "--release", release, *more)
    assert code == 2
    assert "can't be reached from a cluster; give --judge-url" in said


def test_no_cluster_is_one_line(train, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, _, said = train("sft", "--data", "/d", "--out", "/o", "--set", "job.backend=trainjob")
    assert code == 2
    assert "no Kubernetes cluster" in said

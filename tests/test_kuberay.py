"""The manifest for Kubernetes, against the fields of KubeRay's RayJob (ray.io/v1) that it uses.

The schema below is written by hand after the operator's own, which is 1.4 MB long; unknown keys are mistakes in both.
"""

import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml
from consortium import __version__
from consortium.cli.arguments import build_parser
from consortium.cli.main import COMMANDS
from consortium.common.interruption import GRACE_S
from consortium.loading.prepare import prepare

MANIFEST = Path(__file__).resolve().parents[1] / "deploy/kuberay/rayjob.yaml"


def _object(required="", **properties):
    return {"type": "object", "required": required.split(), "properties": properties, "additionalProperties": False}


def _list(items):
    return {"type": "array", "items": items, "minItems": 1}


TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
RESOURCES = _object("requests limits", requests=TEXTS, limits=TEXTS)
SECRET = _object("secretKeyRef", secretKeyRef=_object("name key", name=TEXT, key=TEXT, optional=FLAG))
VARIABLE = {
    "oneOf": [_object("name value", name=TEXT, value=TEXT), _object("name valueFrom", name=TEXT, valueFrom=SECRET)]
}
TOLERATION = _object("", key=TEXT, operator={"enum": ["Exists", "Equal"]}, effect={"enum": ["NoSchedule", "NoExecute"]})
CONTAINER = _object(
    "name image resources",
    name=TEXT,
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    env=_list(VARIABLE),
    resources=RESOURCES,
    volumeMounts=_list(_object("name mountPath", name=TEXT, mountPath=TEXT)),
)
CLAIM = _object("name persistentVolumeClaim", name=TEXT, persistentVolumeClaim=_object("claimName", claimName=TEXT))
POD = _object(
    "spec",
    spec=_object(
        "containers",
        restartPolicy={"enum": ["Never"]},
        terminationGracePeriodSeconds=COUNT,
        tolerations=_list(TOLERATION),
        containers=_list(CONTAINER),
        volumes=_list(CLAIM),
    ),
)
GROUP = {"rayStartParams": TEXTS, "template": POD}
CLUSTER = _object(
    "rayVersion headGroupSpec workerGroupSpecs",
    rayVersion=TEXT,
    authOptions=_object("mode", mode={"enum": ["token", "disabled"]}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=_object(
        version={"enum": ["v1", "v2"]},
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        idleTimeoutSeconds=COUNT,
        resources=RESOURCES,
    ),
    headGroupSpec=_object("template", **GROUP),
    workerGroupSpecs=_list(
        _object("groupName template", groupName=TEXT, replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT, **GROUP)
    ),
)
RAY_JOB = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_object("name", name=TEXT),
    spec=_object(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        backoffLimit=COUNT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=CLUSTER,
    ),
)


@pytest.fixture
def manifest():
    return yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))


def test_the_manifest_is_a_ray_job(manifest):
    assert [error.message for error in jsonschema.Draft202012Validator(RAY_JOB).iter_errors(manifest)] == []


def test_a_key_that_is_not_known_is_found(manifest):
    manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError, match="rayStartParam"):
        jsonschema.validate(manifest, RAY_JOB)


def test_its_ray_is_ours(manifest):
    assert manifest["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")


def test_what_it_runs_can_be_run(manifest, tmp_path):
    """The command parses, its scenario is shipped, and the run lies on the volume that is mounted."""
    command, *arguments = _entered(manifest, tmp_path)
    assert command == "run"
    args = build_parser(COMMANDS).parse_args([command, *arguments])
    assert args.address == "auto"
    kind = prepare(args.scenario, args.set).scenario.cluster.workers
    head, *workers = _containers(manifest)
    assert head["volumeMounts"][0]["mountPath"] == "/runs"
    assert args.out == f"{tmp_path}/runs/thousand-parties"
    assert all(float(each["resources"]["requests"]["cpu"]) >= kind.cpus for each in workers)


def test_a_run_that_is_there_is_resumed(manifest, tmp_path):
    run = tmp_path / "runs/thousand-parties"
    run.mkdir(parents=True)
    (run / "manifest.json").touch()
    command, *arguments = _entered(manifest, tmp_path)
    assert command == "resume"
    args = build_parser(COMMANDS).parse_args([command, *arguments])
    assert (args.directory, args.address) == (str(run), "auto")


def _entered(manifest, folder):
    """What a command of the name consortium is given by the entrypoint, with volumes below ``folder``.

    The line is read as on a cluster: by the shell of the submitter, Ray's own quoting, and the shell of the job.
    """
    command = folder / "bin/consortium"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    command.chmod(0o700)
    line = subprocess.list2cmdline(shlex.split(manifest["spec"]["entrypoint"].replace("/runs/", f"{folder}/runs/")))
    environment = {"PATH": f"{command.parent}:/usr/bin:/bin"}
    return subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_all_pods_have_one_image_that_stays_the_same(manifest):
    """A tag that moves gives a node that comes later other code; it is this version's."""
    assert {each["image"] for each in _containers(manifest)} == {f"consortium:{__version__}"}
    assert {each["imagePullPolicy"] for each in _containers(manifest)} == {"IfNotPresent"}


def test_every_pod_finds_models_and_may_ask_for_them(manifest):
    for pod in _pods(manifest):
        (container,) = pod["containers"]
        variables = {each["name"]: each.get("value") or each["valueFrom"]["secretKeyRef"] for each in container["env"]}
        assert variables["HF_TOKEN"] == {"name": "hf-token", "key": "token", "optional": True}
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert mounts.keys() == {each["name"] for each in pod["volumes"]}
        assert variables["HF_HOME"].startswith(mounts["cache"] + "/")
        assert variables["CONSORTIUM_CACHE"].startswith(mounts["cache"] + "/")


def test_who_asks_for_a_gpu_bears_the_taint_of_its_nodes(manifest):
    for pod in _pods(manifest):
        asks = "nvidia.com/gpu" in pod["containers"][0]["resources"]["requests"]
        assert asks == any(each["key"] == "nvidia.com/gpu" for each in pod.get("tolerations", []))


def test_an_interrupted_run_has_time_to_say_so(manifest):
    head = _pods(manifest)[0]
    assert head["terminationGracePeriodSeconds"] > GRACE_S
    waits = [each["value"] for each in head["containers"][0]["env"] if each["name"] == "RAY_JOB_STOP_WAIT_TIME_S"]
    assert [float(each) > GRACE_S for each in waits] == [True]


def test_the_head_has_no_workers(manifest):
    assert manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}


def _pods(manifest):
    cluster = manifest["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def _containers(manifest):
    return [each for pod in _pods(manifest) for each in pod["containers"]]

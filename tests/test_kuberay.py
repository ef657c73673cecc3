"""The manifest for Kubernetes, against the fields of KubeRay's RayJob (ray.io/v1) that it uses.

The schema below is written by hand after the operator's own, which is 1.4 MB long; unknown keys are mistakes in both.
"""

import shlex
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml
from consortium.cli import COMMANDS
from consortium.scenario.prepare import prepare
from consortium.terminal.arguments import build_parser

MANIFEST = Path(__file__).resolve().parents[1] / "deploy/kuberay/rayjob.yaml"


def _object(required="", **properties):
    return {"type": "object", "required": required.split(), "properties": properties, "additionalProperties": False}


def _list(items):
    return {"type": "array", "items": items, "minItems": 1}


TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
RESOURCES = _object("requests limits", requests=TEXTS, limits=TEXTS)
CONTAINER = _object(
    "name image resources",
    name=TEXT,
    image=TEXT,
    env=_list(_object("name value", name=TEXT, value=TEXT)),
    resources=RESOURCES,
    volumeMounts=_list(_object("name mountPath", name=TEXT, mountPath=TEXT)),
)
CLAIM = _object("name persistentVolumeClaim", name=TEXT, persistentVolumeClaim=_object("claimName", claimName=TEXT))
POD = _object(
    "spec",
    spec=_object("containers", restartPolicy={"enum": ["Never"]}, containers=_list(CONTAINER), volumes=_list(CLAIM)),
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


def test_what_it_runs_can_be_run(manifest):
    """The command parses, its scenario is shipped, and the run lies on the volume that is mounted."""
    command, *arguments = shlex.split(manifest["spec"]["entrypoint"])
    assert command == "consortium"
    args = build_parser(COMMANDS).parse_args(arguments)
    assert args.address == "auto"
    hosts = prepare(args.scenario, args.set).scenario.cluster.hosts
    head, *workers = _containers(manifest)
    assert args.out.startswith(head["volumeMounts"][0]["mountPath"])
    assert all(float(each["resources"]["requests"]["cpu"]) >= hosts.cpus for each in workers)


def test_the_head_has_no_hosts_and_one_image_serves_all(manifest):
    assert manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert len({each["image"] for each in _containers(manifest)}) == 1


def _containers(manifest):
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [each for group in groups for each in group["template"]["spec"]["containers"]]

"""The scenario's types for workers and for a cluster's nodes on one machine."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from consortium.scenario.spec import HundredThousand, Seconds, Spec, Thousand


class WorkersSpec(Spec):
    """The Ray actors that hold the model, or one kind of them."""

    min: HundredThousand = Field(1, description="minimum number of workers; the run is rejected if they do not fit")
    max: HundredThousand = Field(1, description="maximum number of workers; there are never more than party batches")
    cpus: Annotated[float, Field(ge=0.0, le=1e6)] = Field(
        1, description="CPUs that Ray reserves for a worker; may be a fraction"
    )
    gpus: Annotated[float, Field(ge=0.0, le=1e6)] = Field(
        0, description="GPUs that Ray reserves for a worker; may be a fraction"
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] | None = Field(
        None, description="auto, cpu, cuda or cuda:N; null for model.device"
    )
    idle_s: Seconds = Field(
        60.0,
        description="seconds without work after which a worker beyond min ends, so that its node can be released",
    )


class WorkerKindSpec(WorkersSpec):
    """One of several kinds of workers."""

    min: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0, description="minimum number of workers of this kind; the run is rejected if they do not fit"
    )


def _number_stands_for_workers(value: Any) -> Any:
    return {"min": value, "max": value} if type(value) is int else value


def _workers_form(value: Any) -> str:
    return "<array>" if isinstance(value, list | tuple) else "<WorkersSpec>"


_OneKind = Annotated[WorkersSpec, BeforeValidator(_number_stands_for_workers, json_schema_input_type=int | WorkersSpec)]
_Kinds = Annotated[tuple[WorkerKindSpec, ...], Field(min_length=1)]
Workers = Annotated[
    Annotated[_OneKind, Tag("<WorkersSpec>")] | Annotated[_Kinds, Tag("<array>")], Discriminator(_workers_form)
]


class PriceSpec(Spec):
    """Price of an hour, in any currency."""

    of: Annotated[str, Field(min_length=1)] = Field(
        description="a type of nodes (price of a whole node), or `cpu` or `gpu` (price of one, on nodes of "
        "all other types)"
    )
    per_hour: Annotated[float, Field(ge=0.0)] = Field(description="price of an hour")


class AutoscaleSpec(Spec):
    """A cluster on this machine that grows and shrinks: each of its nodes is a Ray node with its own processes."""

    max_nodes: Thousand = Field(2, description="maximum number of nodes, without the node on which the run is started")
    # Whole numbers: Ray's autoscaler takes no node type with a share of one.
    node_cpus: Annotated[int, Field(ge=0, le=10_000)] = Field(1, description="CPUs that a node is told it has")
    node_gpus: Annotated[int, Field(ge=0, le=10_000)] = Field(0, description="GPUs that a node is told it has")
    idle_s: Seconds = Field(5.0, description="seconds without a worker after which a node ends")
    watch_s: Annotated[float, Field(ge=0.0, le=3.2e7)] = Field(
        30.0,
        description="maximum number of seconds for which the run watches its nodes end after the last round; "
        "0: not at all",
    )

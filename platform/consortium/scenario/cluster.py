"""The scenario's types of what a run stands on: workers, and the nodes of a cluster on one machine."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from consortium.scenario.spec import HundredThousand, Seconds, Spec, Thousand


class WorkersSpec(Spec):
    """The Ray actors that hold the model, or one kind of them."""

    min: HundredThousand = Field(
        1, description="workers without which the run is refused; they stay while there is work"
    )
    max: HundredThousand = Field(1, description="workers at most; never more than there are party batches")
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
        description="a worker beyond min ends after so many seconds without work, so that its node can be given back",
    )


class WorkerKindSpec(WorkersSpec):
    """One of several kinds of workers."""

    min: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0, description="workers of this kind without which the run is refused"
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
    """What an hour of something costs, in a currency of the reader's own."""

    of: Annotated[str, Field(min_length=1)] = Field(
        description="a type of nodes, for a whole node; or `cpu` or `gpu`, for one of them on nodes of all other types"
    )
    per_hour: Annotated[float, Field(ge=0.0)] = Field(description="price of an hour")


class AutoscaleSpec(Spec):
    """A cluster on this machine that grows and shrinks: each of its nodes is a Ray node of its own, with processes."""

    max_nodes: Thousand = Field(2, description="nodes at most, the one that the run is started on left out")
    # Whole numbers: Ray's autoscaler takes no node type with a share of one.
    node_cpus: Annotated[int, Field(ge=0, le=10_000)] = Field(1, description="CPUs that a node says it has")
    node_gpus: Annotated[int, Field(ge=0, le=10_000)] = Field(0, description="GPUs that a node says it has")
    idle_s: Seconds = Field(5.0, description="a node without a worker for so many seconds ends")
    watch_s: Annotated[float, Field(ge=0.0, le=3.2e7)] = Field(
        30.0, description="after the last round, the run looks for so many seconds at most how its nodes end; 0: not"
    )

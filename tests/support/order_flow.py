"""The machine of the order in the README, written out by hand."""

from statejobs.values.graph import Edge, EdgeKind, MachineSpec, Promise, TriggerEdges
from statejobs.values.options import TriggerOptions

CHARGE = TriggerEdges(
    key="order.charge",
    name="charge",
    action="process_payment",
    sources=("queued",),
    targets=("completed",),
    during="processing",
    failed="failed",
    options=TriggerOptions("order.charge", queue="payments"),
)


def _job_edge(kind: EdgeKind, source: str, target: str) -> Edge:
    name = f"{CHARGE.action}.{kind}"
    return Edge(
        name=name, sources=(source,), target=target, kind=kind, trigger=CHARGE.key
    )


ORDER = MachineSpec(
    name="Order",
    states=("draft", "queued", "processing", "completed", "failed", "cancelled"),
    initial="draft",
    final=("completed", "cancelled"),
    edges=(
        Edge(
            name="submit",
            sources=("draft",),
            target="queued",
            runs=(Promise(CHARGE.key),),
            guards=("has_amount",),
        ),
        _job_edge(EdgeKind.START, "queued", "processing"),
        _job_edge(EdgeKind.COMPLETE, "processing", "completed"),
        _job_edge(EdgeKind.RETURN, "processing", "queued"),
        _job_edge(EdgeKind.DISCARD, "processing", "failed"),
        Edge(
            name="retry",
            sources=("failed",),
            target="queued",
            runs=(Promise(CHARGE.key),),
        ),
        Edge(name="cancel", sources=("draft", "queued", "failed"), target="cancelled"),
    ),
    triggers=(CHARGE,),
)

"""Stage: a dataset to the partitions that the run will read."""

from prefect import get_run_logger

from tasks.core.base.settings import RunSettings
from tasks.core.dataset.plan import make_plan
from tasks.core.references.cells import Plan
from tasks.core.storage.store import store_of
from tasks.stage import networked


@networked(name="plan", task_run_name="plan {settings.dataset}")
def plan_partitions(settings: RunSettings) -> Plan:
    """Resolve the dataset to a commit, or simulate it, and cut it into partitions."""
    # In a flow of somebody's own, this is where the store begins.
    store_of(settings).claim()
    plan = make_plan(settings)
    asked = f"{plan.cells:,} cells of {plan.dataset}, revision {plan.revision}, in {len(plan.partitions):,} partitions"
    get_run_logger().info(asked)
    for name, reason in plan.left_out.items():
        get_run_logger().warning("column %s is left out of the tables of cells: %s", name, reason)
    for name, told in plan.converted.items():
        get_run_logger().info("column %s is written otherwise than it is: %s", name, told)
    for note in plan.notes:
        get_run_logger().warning("joined tables: %s", note)
    return plan

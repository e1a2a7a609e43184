"""What a run is called in the UI: by what it reads and makes."""

from prefect.runtime import flow_run

from tasks.core.base.settings import ALL, Settings


def run_name() -> str:
    """Name the flow run at hand, say `20,000 cells of Tahoe-100M, 50 components, 10 clusters`."""
    # Prefect has checked the parameters; those not given have the settings' defaults.
    asked = Settings.model_construct(**flow_run.parameters)
    number = ALL if asked.samples == ALL else f"{asked.samples:,}"
    cells = "simulated cells" if asked.is_synthetic else f"cells of {asked.dataset.rstrip('/').rpartition('/')[-1]}"
    return f"{number} {cells}, {asked.pca_dim:,} components, {asked.clusters} clusters"

"""What a run is called in the UI: by what it reads and makes."""

from prefect.runtime import flow_run

from flows.parameters import settings_of
from tasks.core.base.errors import SettingsError
from tasks.core.base.settings import ALL, Settings
from tasks.core.results.summary import one_line


def run_name() -> str:
    """Name the flow run at hand, say `20,000 cells of Tahoe-100M, 50 components, 10 clusters`."""
    try:
        asked = settings_of(Settings, flow_run.parameters)
    except SettingsError:
        return "settings that are refused"
    number = ALL if asked.samples == ALL else f"{asked.samples:,}"
    cells = "simulated cells" if asked.is_synthetic else f"cells of {asked.dataset.rstrip('/').rpartition('/')[-1]}"
    chosen = [f"where {asked.where}"] if asked.where else []
    chosen += [f"{asked.at_most:,} of each {asked.per}"] if asked.per and asked.at_most else []
    of_series = [f"series {asked.series}"] if asked.series else []
    made = [f"{asked.pca_dim:,} components", f"{asked.clusters} clusters"]
    recipe = [] if asked.recipe == "plain" else [asked.recipe]
    return one_line(", ".join([f"{number} {cells}", *chosen, *recipe, *made, *of_series]))

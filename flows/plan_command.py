"""`python flows/run.py --plan`: what a run would take, with nothing of it done."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from flows import console
from tasks.core.base.errors import SettingsError, first_line
from tasks.core.base.settings import Settings


class PlanFlags(BaseModel):
    """What of the command line is about the plan, and no setting of the run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    plan: bool = Field(False)
    """Run nothing: measure this machine for half a minute, and say what the run would read, write, take and cost."""
    plan_file: Path | None = Field(None)
    """Where to write the plan as JSON."""
    plan_rates: Path | None = Field(None)
    """A file with the rates of a machine, or a plan with them; where there is none, this machine's are left there."""
    plan_price: float | None = Field(None, ge=0, allow_inf_nan=False)
    """What a core costs for an hour."""
    plan_network: float | None = Field(None, gt=0, allow_inf_nan=False)
    """MB that come from the Hub in a second."""


def check_flags(flags: PlanFlags) -> None:
    """Refuse what is about a plan where none is asked for.

    Raises:
        SettingsError: it is.
    """
    of_plan = [name for name in PlanFlags.model_fields if getattr(flags, name) is not None and name != "plan"]
    if of_plan and not flags.plan:
        raise SettingsError(f"--{of_plan[0]} is about a plan: give --plan as well, or leave it out")


def run(settings: Settings, flags: PlanFlags) -> int:
    """Show the plan of a run, and write it where that is asked for; give the exit code.

    Raises:
        SettingsError: nothing is known of the dataset offline, or a file cannot be read or written.
    """
    # They take seconds to import, and a mistyped flag should not wait for them.
    from tasks.core.forecast.calibration import calibrate  # noqa: PLC0415
    from tasks.core.forecast.extent import check_known, extent_of  # noqa: PLC0415
    from tasks.core.forecast.forecast import forecast  # noqa: PLC0415
    from tasks.core.forecast.rates import read_rates  # noqa: PLC0415
    from tasks.core.forecast.text import as_text  # noqa: PLC0415

    check_known(settings)
    for path in (flags.plan_file, flags.plan_rates):
        _check_writable(path)
    if flags.plan_rates is not None and flags.plan_rates.exists():
        rates = read_rates(flags.plan_rates)
    else:
        with console.progress():
            rates = calibrate(settings)
        _write(flags.plan_rates, rates)
    network = None if flags.plan_network is None else flags.plan_network * 1e6
    plan = forecast(settings, extent_of(settings, rates), rates, flags.plan_price, network)
    _write(flags.plan_file, plan)
    console.show(as_text(plan))
    return 0


def _check_writable(path: Path | None) -> None:
    # Before half a minute is spent.
    if path is not None and not (path.is_file() or os.access(path.parent, os.W_OK)):
        raise SettingsError(f"cannot write {path}: '{path.parent}' is no folder that can be written to")


def _write(path: Path | None, what: BaseModel) -> None:
    if path is None:
        return
    try:
        path.write_text(what.model_dump_json(indent=1))
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror or first_line(error)}") from error

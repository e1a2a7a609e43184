"""Sections of a report that tell of the run: quality, what was left out, versions, cost, settings, how to repeat it."""

from tasks.core.results.record import RECORD, Record
from tasks.core.results.repeat import changed_settings, repeat_command, settings_of
from tasks.core.results.report_charts import histogram
from tasks.core.results.report_data import Quality
from tasks.core.results.report_html import Html, Safe, grid, paragraph, section, subsection, table, text, verbatim
from tasks.core.results.summary import COST_COLUMNS, costs


def quality(of: Quality) -> tuple[str, Html]:
    """Draw measures of quality over the cells, the thresholds, and what was left out."""
    removed = [(reason, f"{number:,}") for reason, number in of.removed.items()]
    return section(
        "Quality",
        grid(map(histogram, of.histograms)),
        *([table("Left out for their quality", ["what", "number"], removed, right=1)] if removed else []),
    )


def skipped(record: Record) -> list[tuple[str, Html]]:
    """List bad data, columns that no table holds, and damage: nothing where all was well."""
    parts = []
    if record.bad_data:
        bad = [(at.shard, at.reason, f"{at.row:,}", f"{at.rows:,}") for at in record.bad_data]
        parts.append(
            subsection("Bad data", table("Rows that were skipped", ["shard", "reason", "row", "rows"], bad, right=2))
        )
    if record.skipped:
        columns = list(record.skipped.items())
        parts.append(subsection("Left out of the tables", table("What, and why", ["what", "reason"], columns)))
    if record.damaged:
        damage = [(what,) for what in record.damaged]
        parts.append(subsection("Damage that was repaired", table("Objects of the store", ["what"], damage)))
    return [section("Skipped data", *parts)] if parts else []


def versions(record: Record) -> tuple[str, Html]:
    """List what made the numbers: packages, processor and its kernels, and which stages where there are several."""
    made_in = record.environments
    heads = [f"environment {at}" for at in range(1, len(made_in) + 1)] if len(made_in) > 1 else ["version"]
    names = dict.fromkeys(name for one in made_in for name in one)
    rows = [(name, *(one.get(name, "not told") for one in made_in)) for name in names]
    by_stage = [(cost.stage, ", ".join(str(at + 1) for at in cost.environments)) for cost in record.stages]
    return section(
        "Versions",
        table("Packages, the library of linear algebra and its kernels, the processor", ["what", *heads], rows),
        *([table("What made which results", ["stage", "environments"], by_stage)] if len(made_in) > 1 else []),
    )


def cost(record: Record) -> tuple[str, Html]:
    """Tell what each stage took."""
    caption = "Stages; what was found had been left by an earlier run"
    return section("Cost", table(caption, COST_COLUMNS, costs(record), right=5))


def settings(record: Record) -> tuple[str, Html]:
    """List all settings, and which are not the defaults."""
    fields, changed = settings_of(record).model_fields, changed_settings(record)
    rows = [
        (name, _value(value, fields[name].description if name in fields else None, is_given=name in changed))
        for name, value in record.settings.items()
    ]
    return section(
        "Settings", table("All settings of the run; those in bold are not the defaults", ["setting", "value"], rows)
    )


def _value(value: object, meaning: str | None, *, is_given: bool) -> Safe:
    shown = f"<b>{text(value)}</b>" if is_given else text(value)
    return Safe(Html(f"{shown}<small>{text(meaning)}</small>" if meaning else shown))


def repeat(record: Record) -> tuple[str, Html]:
    """Give the command that runs it again."""
    told = (
        "The same command on the same data gives the same results, to the last bit where the kind of processor, the "
        "kernels of linear algebra (blas) and the packages are those under Versions. "
        f"The dataset was at revision {record.dataset['revision']}; one on the Hub stays there with --revision. "
        f"{RECORD} has all of this for programs."
    )
    command = Html(f"<pre><code>{verbatim(repeat_command(record))}</code></pre>")
    return section("Repeat it", command, paragraph(told))

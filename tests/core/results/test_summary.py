import re

import pytest
from markdown_it import MarkdownIt

from tasks.core.base.recipes import PLAIN
from tasks.core.numerics.normalize import NORMALIZATION
from tasks.core.references.cells import Skipped
from tasks.core.references.model import Output
from tasks.core.results.costs import StageCost
from tasks.core.results.record import Origin, RunRecord
from tasks.core.results.summary import as_text, summary

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "[link](javascript:alert(1)) ![picture](http://evil.example/x.png)",
    "a | b\n\n# heading\n- item\n```\ncode",
    "`code` **bold** &lt;b&gt; <http://evil.example> https://evil.example www.evil.example",
    "\\[x](http://evil.example)\x00\x1b[31m\u202e",
]


def rendered(markdown: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def data_url(name: str) -> str:
    return "data:image/png;base64,AAAA"


def record(text: str) -> RunRecord:
    component = {"residual": 1e-6, "settled": True, "within_rank": True, "explained_variance_ratio": 0.01}
    return RunRecord(
        origin=Origin(run=text, version=text, flow_run=text),
        settings={"pca_dim": 30, "clusters": 40, "seed": 1, "svd_tolerance": 5e-4},
        dataset={
            **{"name": text, "revision": text, "simulated": False},
            **{"cells_asked_for": 100, "cells_read": 98, "ended_early": False},
        },
        environments=({"numpy": text},),
        normalization=NORMALIZATION,
        read={"cells": 98, "skipped_cells": 2, "nonzeros": 500, "partitions": 2, "genes": 40, "empty_cells": 0},
        skipped={f"column {text}": text},
        bad_data=(Skipped(shard=text, row=3, rows=2, reason=text),) * 65,
        damaged=(text,),
        recipe=PLAIN,
        removed={"cells": 0, "genes": 0},
        correction=None,
        scores=None,
        svd={
            "passes": 7,
            "shortcomings": [],
            "components": [{"pc": f"pc{at}", "singular_value": 100.0 - at} | component for at in range(1, 31)],
        },
        clustering={"names": [*range(70)], "sizes": [*range(1, 71)]},
        series=None,
        stages=(StageCost(stage="svd", seconds=2.0, cells_per_second=49.0, peak_memory_bytes=10**9, made=1, cached=0),),
        outputs=(Output(name="embeddings.csv", size=1, sha256="0"),),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_what_came_from_data_is_text_and_nothing_else(text: str) -> None:
    page = rendered(summary(record(text), lambda name: f"/{text}/{name}", data_url))
    tame = rendered(summary(record("tame"), lambda name: f"/tame/{name}", data_url))
    assert re.findall(r"</?\w+[^>]*>", page) == re.findall(r"</?\w+[^>]*>", tame)
    shown = rendered(as_text(text))
    assert "http://" not in as_text(text)
    assert all(character.isprintable() for character in shown.strip())


def test_a_summary_says_what_ran_how_right_it_is_and_what_was_left_out() -> None:
    page = summary(record("tahoebio/Tahoe-100M"), lambda name: f"/results/{name}", data_url)
    shown = rendered(page)
    for told in (
        "tahoebio/Tahoe-100M",
        "30 of 30 components settled to a residual of 0.0005 in 7 passes; the worst residual is 1.0e-06",
        "2 BAD CELLS WERE SKIPPED",
        "All 30 components explain 30.00 % of the variance of all genes.",
        "And 5 more: run.json has them.",
        "/results/embeddings.csv",
    ):
        assert told in shown
    assert len(re.findall(r"<td>pc\d+</td>", shown)) == 10
    assert "| 20 smaller | 210 | 8.5 % |" in page

"""The page of faults says what the matrix and the record of the last full run say, and nothing else."""

from __future__ import annotations

import json

from tests.lab.faults import page


def test_the_page_is_what_the_generator_makes_of_the_record() -> None:
    record = json.loads(page.RECORD.read_text(encoding="utf-8"))

    assert page.PAGE.read_text(encoding="utf-8") == page.page(record)


def test_a_figure_that_no_run_wrote_down_is_not_printed() -> None:
    bare = page.page({})

    assert "Played on" not in bare
    assert "Random instants" not in bare
    assert "seeds" not in bare

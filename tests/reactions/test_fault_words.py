from __future__ import annotations

from shared.reactions import features_ready


def test_a_fault_of_rows_names_them_and_one_of_a_whole_file_has_no_row_to_name() -> None:
    row = {"file": "landing/churn/a.csv", "row": 7, "value": 3.2}
    whole = {"file": "landing/churn/missing.csv", "row": None, "value": None}
    assert features_ready.words({"text": "x is outside.", "rows": [row]}) == "x is outside (a.csv row 7: 3.2)"
    text = "landing/churn/missing.csv has no column kind. It has id, x."
    assert features_ready.words({"text": text, "rows": [whole]}) == text.rstrip(".")

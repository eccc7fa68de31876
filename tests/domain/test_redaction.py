"""What is taken out of a text before it is shown or kept."""

from __future__ import annotations

import pytest

from shared.domain.redaction import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://a/b?sv=1&sig=abc%2F1&se=2", "https://a/b?sv=1&sig=…&se=2"),
        ("https://a/api?code=k3y==", "https://a/api?code=…"),
        ("AccountName=a;AccountKey=Zm9v==;EndpointSuffix=x", "AccountName=a;AccountKey=…;EndpointSuffix=x"),
        ("(Authorization: Bearer eyJ0.e30.x)", "(Authorization: Bearer …)"),
        ("it ended with code=137 after design=3", "it ended with code=137 after design=3"),
    ],
)
def test_signatures_keys_and_tokens_are_taken_out_and_nothing_else(text: str, shown: str) -> None:
    assert without_secrets(text) == shown

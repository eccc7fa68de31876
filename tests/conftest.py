"""The order of the run: quick files first, then the long ones, the longest before: all processes end together."""

from __future__ import annotations

import pytest

LONG = (
    "reactions/test_crashes.py",
    "worker/test_azure.py",
    "contracts/test_batch_service.py",
    "scenarios/test_customer_churn.py",
    "scenarios/test_one_model.py",
    "scenarios/test_new_pipeline.py",
    "contracts/test_feature_engine.py",
    "docs/test_readme.py",
    "spark/test_parity.py",
    "spark/test_features_job.py",
    "scenarios/test_host_death.py",
    "spark/test_spark_sql.py",
    "scenarios/test_bad_days.py",
    "contracts/test_model_registry.py",
    "contracts/test_endpoint_service.py",
    "worker/test_laptop.py",
    "wire/test_loop.py",
    "wire/test_score_command.py",
    "wire/test_inference_server.py",
    "scaffold/test_scaffold.py",
)
"""Below tests/, each of 20 seconds and more."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {f"tests/{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], -1))

"""The features job on Spark keeps the contract of the port, and gives what DuckDB gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.adapters.local.features_job import prepare as prepare_with_duckdb
from shared.adapters.local.lake import FolderLake
from shared.adapters.system_clock import SystemClock
from shared.jobs.prepare_features_spark import prepare
from shared.ports.feature_engine import FeaturesJob, Manifest
from shared.spark.delta_tables import by_delta_rs
from shared.spark.lake import SparkLake
from tests.contracts import test_feature_engine as contract

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark")


class SparkFeatures(contract.Harness):
    """The Spark job on a folder of this machine."""

    def __init__(self, spark: SparkSession, home: Path) -> None:
        super().__init__(home)
        self.spark = spark
        self.lake = FolderLake(home / "lake", "landfall", "lake")

    def prepare(self, job: FeaturesJob) -> Manifest:
        """In this process."""
        return prepare(self.spark, SparkLake(self.spark, (self.home / "lake").as_uri()), job, by_delta_rs)

    def prepare_with_duckdb(self, job: FeaturesJob) -> Manifest:
        """The same work as a laptop does it."""
        return prepare_with_duckdb(job, self.lake, self.home / "work", SystemClock())


@pytest.fixture(scope="module", autouse=True)
def _small_jobs(spark: SparkSession) -> Iterator[None]:
    """A job on a few rows spends most of its time on code that is made for many: leave that out."""
    quick = {
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
    }
    for name, value in quick.items():
        spark.conf.set(name, value)
    yield
    for name in quick:
        spark.conf.unset(name)


@pytest.fixture
def features(spark: SparkSession, tmp_path: Path) -> SparkFeatures:
    return SparkFeatures(spark, tmp_path)


CONTRACT: list[Callable[..., None]] = [
    contract.test_every_format_gives_the_same_features,
    contract.test_a_row_is_held_out_by_its_key_alone_and_stays_so,
    contract.test_the_newest_row_of_a_key_counts,
    contract.test_keep_all_gives_every_row_and_features_sql_decides,
    contract.test_repeated_rows_are_dropped_by_distinct,
    contract.test_the_manifest_is_kept_under_the_fingerprint_of_its_input,
    contract.test_a_file_that_was_replaced_since_is_read_but_not_kept_as_that_input,
    contract.test_the_reference_profile_is_of_training_rows,
    contract.test_dates_times_and_booleans_keep_their_types,
    contract.test_types_are_found_from_all_files_and_later_ones_must_fit,
    contract.test_codes_with_leading_zeros_are_text,
    contract.test_a_csv_may_use_semicolons_and_a_byte_order_mark,
    contract.test_a_batch_below_its_minimum_is_short_and_makes_nothing,
    contract.test_without_new_files_what_landed_before_is_prepared,
    contract.test_a_delta_commit_stands_for_the_rows_that_it_added,
    contract.test_a_bad_file_rejects_the_batch_and_is_named,
    contract.test_bad_rows_reject_the_batch_with_their_count_place_and_value,
    contract.test_a_null_key_rejects_the_batch_also_where_nulls_are_allowed,
    contract.test_a_bound_on_a_column_that_turns_out_to_be_text_rejects_the_batch,
    contract.test_all_faults_of_a_batch_are_told_at_once,
    contract.test_a_fault_shows_a_few_rows_and_counts_all,
    contract.test_earlier_files_are_not_checked_again,
    contract.test_a_file_that_is_gone_rejects_the_batch_and_an_earlier_one_is_left_out,
    contract.test_features_that_nothing_can_be_learned_from_are_not_made,
    contract.test_two_rows_of_a_key_in_the_result_reject_the_batch,
    contract.test_a_job_that_has_its_manifest_changes_nothing,
    contract.test_each_run_pins_its_own_version_of_the_table,
]
"""Tests of the port's suite that Spark has to pass, too."""

globals().update({test.__name__: test for test in CONTRACT})

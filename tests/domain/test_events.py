"""Event Grid events become signals, and none makes the parser raise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import azure.functions as func
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.events import BODY_LIMIT, NoSignal, azureml_signal, delivered, storage_signal
from shared.domain.signals import (
    DataLanded,
    EvaluationFinished,
    EventUnreadable,
    FeaturesReady,
    ModelRegistered,
    Signal,
    TrainingFinished,
    from_message,
)

AT = datetime(2026, 11, 24, 8, tzinfo=UTC)
CONTAINER = "/blobServices/default/containers/lake/blobs"
TOPIC = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct"


def event(kind: str | None, subject: Any, data: Any, *, topic: Any = TOPIC, id: Any = "e-1", at: Any = AT) -> Any:
    return func.EventGridEvent(
        id=id, topic=topic, subject=subject, event_type=kind, event_time=at, data=data, data_version="1"
    )  # type: ignore[arg-type]


def storage(
    path: str, kind: str = "BlobCreated", data: dict[str, Any] | None = None, topic: Any = TOPIC
) -> Signal | NoSignal:
    subject = f"{CONTAINER}/{path}" if path else ""
    given = {"api": "FlushWithClose", "eTag": "0x8D", "contentLength": 12, **(data or {})}
    return storage_signal(delivered(event(f"Microsoft.Storage.{kind}", subject, given, topic=topic)))


def landed(*arguments: Any, **options: Any) -> DataLanded:
    signal = storage(*arguments, **options)
    assert isinstance(signal, DataLanded), signal
    return signal


def azureml(kind: str, data: Any, subject: str = "") -> Signal | NoSignal:
    return azureml_signal(delivered(event(f"Microsoft.MachineLearningServices.{kind}", subject, data)))


def test_a_created_file_says_all_that_its_event_says() -> None:
    signal = landed("landing/churn/a.csv", data={"sequencer": "0001", "unknown": {"x": []}})
    assert signal == DataLanded(
        account="acct",
        container="lake",
        path="landing/churn/a.csv",
        api="FlushWithClose",
        event="e-1",
        at=AT,
        etag="0x8D",
        size=12,
    )


@pytest.mark.parametrize("etag", ['"0x8D"', 'W/"0x8D"', "0x8D"])
def test_etags_lose_their_quotes(etag: str) -> None:
    assert landed("a", data={"eTag": etag}).etag == "0x8D"


@pytest.mark.parametrize(
    ("length", "size"), [(0, 0), ("17", 17), (-1, None), (None, None), (True, None), (1.5, None), ("x", None)]
)
def test_sizes_are_numbers_or_unknown(length: Any, size: int | None) -> None:
    assert landed("a", data={"contentLength": length}).size == size


@pytest.mark.parametrize("host", ["other.blob.core.windows.net", "other.dfs.core.windows.net"])
def test_the_account_is_the_topic_s_or_that_of_the_url(host: str) -> None:
    url = {"url": f"https://{host}/lake/a"}
    assert landed("a", data=url).account == "acct"
    assert landed("a", data=url, topic=None).account == "other"


@pytest.mark.parametrize(
    ("subject_path", "url_path", "path"),
    [
        ("a b.csv", "a%20b.csv", "a b.csv"),
        ("100%25.csv", "100%2525.csv", "100%25.csv"),
        ("a%20b.csv", "a%20b.csv", "a b.csv"),
        ("log\ufffd\ufffd.csv", "log%F0%9F%92%8E.csv", "log💎.csv"),
        ("", "folder/a%2Bb.csv", "folder/a+b.csv"),
        ("a%20b.csv", "", "a%20b.csv"),
    ],
)
def test_a_name_is_read_from_subject_and_url(subject_path: str, url_path: str, path: str) -> None:
    url = f"https://acct.dfs.core.windows.net/lake/{url_path}" if url_path else ""
    assert landed(subject_path, data={"url": url}).path == path


def test_a_renamed_file_has_landed_where_it_is_now() -> None:
    places = {
        "api": "RenameFile",
        "sourceUrl": "https://acct.dfs.core.windows.net/lake/_temporary/x",
        "destinationUrl": "https://acct.dfs.core.windows.net/lake/landing/x",
        "eTag": None,
    }
    for path in ("landing/x", ""):
        signal = landed(path, "BlobRenamed", data=places)
        assert (signal.path, signal.api, signal.key) == ("landing/x", "RenameFile", "acct/lake/landing/x@e-1")
    assert landed("landing/day", "DirectoryRenamed", data={"api": "RenameDirectory"}).api == "RenameDirectory"


def test_a_manifest_says_that_features_are_ready_once_it_is_written() -> None:
    path = "features/churn/churn-b1/manifest.json"
    assert storage(path) == FeaturesReady(pipeline="churn", run="churn-b1")
    assert storage(path, "BlobRenamed") == FeaturesReady(pipeline="churn", run="churn-b1")
    assert isinstance(storage(path, data={"api": "CreateFile"}), NoSignal)
    assert isinstance(storage(f"x/{path}"), DataLanded)


@pytest.mark.parametrize("folder", ["features", "models", "predictions", "scoring"])
def test_what_the_loop_itself_writes_wakes_nothing(folder: str) -> None:
    assert isinstance(storage(f"{folder}/churn/1/x.json"), NoSignal)


def test_other_storage_events_wake_nothing() -> None:
    assert isinstance(storage("a", "BlobDeleted"), NoSignal)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (event(None, "s", {}), "has no eventType"),
        (event("Contoso.Happened", "s", {}), "Contoso.Happened is no event of a storage account"),
        (event("Microsoft.Storage.BlobCreated", "/x", {"url": "no url"}), "names a file in a container"),
        (event("Microsoft.Storage.BlobCreated", None, {"url": "https://[::1"}), "names a file in a container"),
        (event("Microsoft.Storage.BlobCreated", "/x", None), "has no data"),
        (event("Microsoft.Storage.BlobCreated", "/x", ["data"]), "has no data"),
        (event("Microsoft.Storage.BlobCreated", "/x", {}, at=None), "has no eventTime"),
        (event("Microsoft.Storage.BlobCreated", f"{CONTAINER}/x", {}, id=None), "neither an eTag nor an id"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_recorded(broken: Any, reason: str) -> None:
    signal = storage_signal(delivered(broken))
    assert isinstance(signal, EventUnreadable)
    assert reason in signal.reason
    assert signal.key.startswith("storage/")


def test_two_deliveries_of_an_unreadable_event_without_id_have_one_key() -> None:
    first, again, other = (
        storage_signal(delivered(event("X", "s", {"n": n}, id=None))) for n in (1, 1, 2)
    )  # fmt: skip
    assert isinstance(first, EventUnreadable) and isinstance(again, EventUnreadable)
    assert isinstance(other, EventUnreadable)
    assert first.key == again.key != other.key


def test_a_cloud_event_is_read_like_any_other() -> None:
    cloud = func.CloudEvent(
        id="c-1",
        source=TOPIC,
        type="Microsoft.Storage.BlobCreated",
        specversion="1.0",
        subject="/blobServices/default/containers/lake/blobs/a.csv",
        time=AT,
        data={"api": "PutBlob", "eTag": "0x1"},
    )
    signal = storage_signal(delivered(cloud))
    assert isinstance(signal, DataLanded)
    assert (signal.account, signal.path, signal.api) == ("acct", "a.csv", "PutBlob")


@pytest.mark.parametrize(
    "data",
    [{"ModelName": "churn", "ModelVersion": "3"}, {"modelName": "churn", "modelVersion": 3}, {"MODELNAME": 5}],
)
def test_a_registered_model_is_known_in_any_casing(data: dict[str, Any]) -> None:
    assert azureml("ModelRegistered", data, "models/churn:3") in (
        ModelRegistered(model="churn", version="3"),
        ModelRegistered(model="5", version="3"),
    )


def test_a_registered_model_without_a_name_is_unreadable() -> None:
    assert isinstance(azureml("ModelRegistered", {}, "models/"), EventUnreadable)


@pytest.mark.parametrize(
    ("reported", "status"),
    [("Completed", "completed"), ("FAILED", "failed"), ("Canceled", "cancelled"), ("NotResponding", "failed")],
)
def test_the_end_of_a_training_job_is_known_by_its_name(reported: str, status: str) -> None:
    data = {"RunId": "churn-b7-train-2", "ExperimentName": "churn", "RunStatus": reported}
    assert azureml("RunStatusChanged", data) == TrainingFinished(pipeline="churn", run="churn-b7", status=status)


def test_tags_are_believed_before_names() -> None:
    tags = {"landfall.pipeline": "churn", "landfall.run": "churn-b1", "landfall.step": "train", "landfall.version": "4"}
    data = {"runId": "blue_sky-evaluate-9", "experimentName": "other", "runTags": tags}
    assert azureml("RunCompleted", data) == TrainingFinished(pipeline="churn", run="churn-b1", status="completed")
    tags["landfall.step"] = "evaluate"
    assert azureml("RunCompleted", data) == EvaluationFinished(
        pipeline="churn", version="4", status="completed", job="blue_sky-evaluate-9"
    )


def test_the_end_of_an_evaluation_is_known_by_its_name_or_subject() -> None:
    expected = EvaluationFinished(pipeline="churn", version="3", status="completed", job="churn-b1-evaluate-3")
    assert azureml("RunCompleted", {"runId": "churn-b1-evaluate-3", "experimentName": "churn"}) == expected
    assert azureml("RunCompleted", {"experimentName": "churn"}, "experiments/x/runs/churn-b1-evaluate-3") == expected
    against = "churn-b1-evaluate-3-against-2"
    expected = EvaluationFinished(pipeline="churn", version="3", status="completed", job=against)
    assert azureml("RunCompleted", {"runId": against, "experimentName": "churn"}) == expected


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("RunCompleted", {"runId": "churn-b1-features", "experimentName": "churn"}),
        ("RunCompleted", {"runId": "somebody-else", "experimentName": "x"}),
        ("RunStatusChanged", {"runId": "churn-b1-train-1", "runStatus": "Running", "experimentName": "churn"}),
        ("ModelDeployed", {}),
    ],
)
def test_jobs_of_others_and_states_on_the_way_wake_nothing(kind: str, data: dict[str, Any]) -> None:
    assert isinstance(azureml(kind, data), NoSignal)


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"runId": "churn-b1-train-1"},
        {"runId": "churn-b1-train-1", "runStatus": "Failed"},
        {"runId": "x", "runStatus": "Failed", "experimentName": "churn", "runTags": {"landfall.step": "train"}},
        {"runId": "x", "runStatus": "Failed", "experimentName": "churn", "runTags": {"landfall.step": "evaluate"}},
    ],
)
def test_job_events_that_miss_something_are_unreadable(data: Any) -> None:
    assert isinstance(azureml("RunStatusChanged", data), EventUnreadable)


WORDS = "api eTag url destinationUrl contentLength runId runStatus runTags experimentName modelName modelVersion"
KEYS = st.sampled_from(WORDS.split())
TEXTS = st.one_of(
    st.text(st.characters(), max_size=40),
    st.sampled_from(
        [
            "https://a.dfs.core.windows.net/c/x",
            "https://[",
            "churn-train-1",
            "Failed",
            "\ud800",
            "models/:",
            "/blobServices/default/containers/c/blobs/x",
            "features/p/r/manifest.json",
        ]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=4),
    max_leaves=8,
)
KINDS = st.sampled_from(
    [f"Microsoft.Storage.{kind}" for kind in ("BlobCreated", "BlobRenamed", "DirectoryRenamed", "BlobDeleted")]
    + [f"Microsoft.MachineLearningServices.{kind}" for kind in ("ModelRegistered", "RunCompleted", "RunStatusChanged")]
)


@given(
    kind=KINDS | JSON,
    subject=JSON,
    topic=JSON,
    id=JSON,
    at=st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    data=st.dictionaries(KEYS, JSON) | JSON,
)
def test_no_event_makes_the_parser_raise_and_every_signal_survives_the_queue(
    kind: Any, subject: Any, topic: Any, id: Any, at: Any, data: Any
) -> None:
    for read in (storage_signal, azureml_signal):
        signal = read(delivered(event(kind, subject, data, topic=topic, id=id, at=at)))
        if not isinstance(signal, NoSignal):
            assert from_message(signal.to_message()) == signal
            assert signal.key.encode()
        if isinstance(signal, EventUnreadable):
            assert signal.reason
            assert len(signal.body) <= BODY_LIMIT


def test_an_event_nested_without_end_is_unreadable() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert isinstance(storage_signal(delivered(event("X", "s", deep))), EventUnreadable)

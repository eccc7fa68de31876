"""The Synapse pipeline of batch scoring, and what it refers to, as the JSON that Synapse keeps.

    rows of a SQL query ─► lake folder ─► job of the batch endpoint, followed to its end ─► table of the SQL pool

The first and the last step are left out of a run that has no ``query`` or no ``table``. Synapse's activity for
Azure ML batch execution is for the retired Studio (classic) and the one for pipelines for the first version of the
service, so the endpoint is called by web activities, with the identity of the Synapse workspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.adapters.azure.workspace import SCORING

PIPELINE = "landfall-batch-scoring"
LAKE, SQL = "landfall-lake", "landfall-sql"
"""Names of linked services."""
LAKE_ROWS, SQL_ROWS = "landfall_lake_rows", "landfall_sql_rows"
"""Names of datasets: Synapse allows no dashes in them."""
PARAMETERS = ("name", "address", "deployment", "job", "data", "input", "output", "query", "schema", "table")
"""Parameters of the pipeline, all text: our name of the job; the endpoint's address for jobs and the deployment;
addresses of the job's description and of the input's folder; lake paths; and what to do in the SQL pool."""
ROWS_FILE = "rows.parquet"
"""The file of the folder ``input`` that a query's rows are put into."""
JOB_COLUMN = "landfall_job"
"""The column of a table that tells which job loaded a row."""
POLL_SECONDS = 30
LONGEST = "1.00:00:00"
"""A job is followed for a day."""


def linked_services(account: str, workspace: str, pool: str = "") -> dict[str, dict[str, Any]]:
    """By name: the lake's account, and the dedicated SQL pool ``pool`` of the Synapse workspace if it has one.
    Both are opened with the identity of the Synapse workspace.
    """
    made = {LAKE: _properties("AzureBlobFS", {"url": f"https://{account}.dfs.core.windows.net"})}
    if pool:
        server = f"tcp:{workspace}.sql.azuresynapse.net,1433"
        connection = f"Data Source={server};Initial Catalog={pool};Encrypt=True;Connection Timeout=30"
        made[SQL] = _properties("AzureSqlDW", {"connectionString": connection})
    return made


def datasets(container: str, *, sql: bool = True) -> dict[str, dict[str, Any]]:
    """By name: a parquet file of the lake, and a table of the SQL pool."""
    place = {
        "type": "AzureBlobFSLocation",
        "fileSystem": container,
        "folderPath": _expression("@dataset().folder"),
        "fileName": _expression("@dataset().file"),
    }
    made = {LAKE_ROWS: _dataset("Parquet", LAKE, ("folder", "file"), {"location": place})}
    if sql:
        table = {"schema": _expression("@dataset().schema"), "table": _expression("@dataset().table")}
        made[SQL_ROWS] = _dataset("AzureSqlDWTable", SQL, ("schema", "table"), table)
    return made


def batch_scoring_pipeline(container: str, *, sql: bool = True, poll_seconds: int = POLL_SECONDS) -> dict[str, Any]:
    """The pipeline's properties. Without ``sql`` a run that asks for the SQL pool fails and says that there is none.

    Nothing in it is done twice: steps that change something are not repeated, and what a second run of the same
    job would write takes the place of what the first has written.
    """
    read = [_read_rows()] if sql else [_fail("NoSqlPoolToRead", "query")]
    load = [_load_rows(container)] if sql else [_fail("NoSqlPoolToLoad", "table")]
    return {
        "description": "Scores a file or folder of the lake with a model version of Landfall.",
        "parameters": {name: {"type": "string", "defaultValue": ""} for name in PARAMETERS},
        "variables": {"state": {"type": "String", "defaultValue": "NotStarted"}},
        "activities": [
            _when("ReadRows", "@not(empty(pipeline().parameters.query))", read),
            _post_job(after="ReadRows"),
            _until_ended(poll_seconds, after="Score"),
            _when(
                "CheckEnd",
                "@not(equals(variables('state'), 'Completed'))",
                [
                    _activity(
                        "ScoringFailed",
                        "Fail",
                        {
                            "message": _expression(
                                "@concat('batch job ', activity('Score').output.name, ' of Azure ML is ',"
                                " variables('state'))"
                            ),
                            "errorCode": "BatchJobFailed",
                        },
                    )
                ],
                after="FollowJob",
            ),
            _when("LoadRows", "@not(empty(pipeline().parameters.table))", load, after="CheckEnd"),
        ],
        "annotations": ["landfall"],
    }


def _post_job(after: str) -> dict[str, Any]:
    body = {
        "properties": {
            "InputData": {
                "job": {"JobInputType": "UriFile", "Uri": "@pipeline().parameters.job"},
                "data": {"JobInputType": "UriFolder", "Uri": "@pipeline().parameters.data"},
            }
        }
    }
    headers = {"Content-Type": "application/json", "azureml-model-deployment": "@pipeline().parameters.deployment"}
    call = {"method": "POST", "url": _expression("@pipeline().parameters.address"), "headers": headers, "body": body}
    return _web("Score", call, retry=0, after=after)


def _until_ended(seconds: int, after: str) -> dict[str, Any]:
    look = {
        "method": "GET",
        "url": _expression("@concat(pipeline().parameters.address, '/', activity('Score').output.name)"),
    }
    remember = {
        "variableName": "state",
        "value": _expression("@string(activity('LookAtJob').output.properties.status)"),
    }
    loop = {
        "expression": _expression("@contains(createArray('Completed', 'Failed', 'Canceled'), variables('state'))"),
        "timeout": LONGEST,
        "activities": [
            _activity("WaitABit", "Wait", {"waitTimeInSeconds": seconds}),
            _web("LookAtJob", look, retry=5, after="WaitABit"),
            _activity("RememberState", "SetVariable", remember, after="LookAtJob"),
        ],
    }
    return _activity("FollowJob", "Until", loop, after=after)


def _read_rows() -> dict[str, Any]:
    return _copy(
        "CopyRowsIntoLake",
        source={"type": "SqlDWSource", "sqlReaderQuery": _expression("@pipeline().parameters.query")},
        inputs=_reference(SQL_ROWS, schema="", table=""),
        sink={"type": "ParquetSink", "storeSettings": {"type": "AzureBlobFSWriteSettings"}},
        outputs=_reference(LAKE_ROWS, folder="@pipeline().parameters.input", file=ROWS_FILE),
    )


def _load_rows(container: str) -> dict[str, Any]:
    parameters = "pipeline().parameters"
    where = f"[', {parameters}.schema, '].[', {parameters}.table, ']"
    # The text of a statement of its own, because one that names a table that is not there yet is not compiled.
    delete = f"''DELETE FROM {where} WHERE {JOB_COLUMN} = ''''', {parameters}.name, '''''''"
    before = f"@concat('IF OBJECT_ID(''{where}'') IS NOT NULL EXEC({delete})')"
    folder = "@substring(pipeline().parameters.output, 0, lastIndexOf(pipeline().parameters.output, '/'))"
    return _copy(
        "CopyScoresIntoTable",
        source={
            "type": "ParquetSource",
            "storeSettings": {"type": "AzureBlobFSReadSettings"},
            "additionalColumns": [{"name": JOB_COLUMN, "value": _expression("@pipeline().parameters.name")}],
        },
        inputs=_reference(LAKE_ROWS, folder=folder, file="@last(split(pipeline().parameters.output, '/'))"),
        sink={
            "type": "SqlDWSink",
            "allowCopyCommand": True,
            "tableOption": "autoCreate",
            "preCopyScript": _expression(before),
        },
        outputs=_reference(SQL_ROWS, schema="@pipeline().parameters.schema", table="@pipeline().parameters.table"),
        # A column that is not in the file takes the way over a staging folder.
        staging={
            "enableStaging": True,
            "stagingSettings": {"linkedServiceName": _linked(LAKE), "path": f"{container}/batch/staging"},
        },
    )


def _activity(name: str, kind: str, properties: dict[str, Any], after: str = "", **fields: Any) -> dict[str, Any]:
    depends = [{"activity": after, "dependencyConditions": ["Succeeded"]}] if after else []
    return {"name": name, "type": kind, "dependsOn": depends, "typeProperties": properties, **fields}


def _when(name: str, condition: str, activities: Sequence[dict[str, Any]], after: str = "") -> dict[str, Any]:
    chosen = {"expression": _expression(condition), "ifTrueActivities": list(activities)}
    return _activity(name, "IfCondition", chosen, after)


def _web(name: str, call: dict[str, Any], *, retry: int, after: str) -> dict[str, Any]:
    policy = {"timeout": "0.00:01:00", "retry": retry, "retryIntervalInSeconds": 30}
    return _activity(
        name, "WebActivity", {**call, "authentication": {"type": "MSI", "resource": SCORING}}, after, policy=policy
    )


def _copy(
    name: str,
    *,
    source: dict[str, Any],
    inputs: dict[str, Any],
    sink: dict[str, Any],
    outputs: dict[str, Any],
    staging: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return _activity(
        name,
        "Copy",
        {"source": source, "sink": sink, **(staging or {"enableStaging": False})},
        inputs=[inputs],
        outputs=[outputs],
        policy={"timeout": "0.12:00:00", "retry": 1, "retryIntervalInSeconds": 60},
    )


def _fail(name: str, parameter: str) -> dict[str, Any]:
    message = f"the run has a {parameter}, and Landfall was set up without a SQL pool: name one and run landfall setup"
    return _activity(name, "Fail", {"message": message, "errorCode": "NoSqlPool"})


def _reference(name: str, **parameters: str) -> dict[str, Any]:
    given = {key: _expression(value) if value.startswith("@") else value for key, value in parameters.items()}
    return {"referenceName": name, "type": "DatasetReference", "parameters": given}


def _dataset(kind: str, service: str, parameters: Sequence[str], properties: dict[str, Any]) -> dict[str, Any]:
    declared = {name: {"type": "string", "defaultValue": ""} for name in parameters}
    return {
        "type": kind,
        "linkedServiceName": _linked(service),
        "parameters": declared,
        "typeProperties": properties,
        "annotations": ["landfall"],
    }


def _properties(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "typeProperties": properties, "annotations": ["landfall"]}


def _linked(name: str) -> dict[str, Any]:
    return {"referenceName": name, "type": "LinkedServiceReference"}


def _expression(text: str) -> dict[str, Any]:
    return {"value": text, "type": "Expression"}

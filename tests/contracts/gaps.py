"""Where the two backends differ: the ``gap`` marks of the contract suites, and docs/local-vs-azure.md made of them.

``python -m tests.contracts.gaps > docs/local-vs-azure.md`` brings the page up to date.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUITES = Path(__file__).parent
BACKENDS = {"local": "a laptop", "azure": "Azure"}

HEAD = """# A laptop and Azure

The loop is the same on both: the same functions, signals, reactions and ledger entries, over ports with two sets
of adapters (`shared/adapters/local`, `shared/adapters/azure`). One suite of tests per port (`tests/contracts`)
runs on both. This page is made of them by `python -m tests.contracts.gaps`, and a test compares it.

| port | on a laptop | on Azure |
|---|---|---|
| Lake | a folder | a container of ADLS Gen2, azure-storage-blob |
| SignalQueue | SQLite | a storage queue, azure-storage-queue and output bindings |
| RunLedger | SQLite | a table with compare-and-swap, azure-data-tables |
| FeatureEngine | DuckDB in a process | a Synapse Spark batch, azure-synapse-spark; features.sql is translated |
| TrainingService | a process | an Azure ML command job, azure-ai-ml |
| ModelRegistry | MLflow on SQLite | the Azure ML registry of the workspace, azure-ai-ml |
| EndpointService | models in the process that is asked | a managed online endpoint, azure-ai-ml, with Entra tokens |
| BatchService | a process | a Synapse pipeline that calls a batch endpoint, azure-synapse-artifacts |
| EventPublisher | a file | CloudEvents on a custom topic, azure-eventgrid |

## Where they differ

Each line is a test that is expected to fail on one side, strictly: if it ever passes, the run fails.

| suite | what | not on | why |
|---|---|---|---|
"""
TAIL = """
## What only Azure itself can show

Nothing in this project has run against Azure. Up to its edge everything runs: the real clients of all services send
their real requests over HTTPS, with tokens, to a strict stand-in (`tests/standin`) and to Azurite; Microsoft's own
Python worker runs the functions (`tests/worker`); command jobs, Spark batches and deployments do their real work in
processes of the test's machine. What that leaves open:

- **The services' own behaviour**: how long provisioning takes, what they throttle and when, their error texts,
  quotas, regional offers. The stand-in answers as their documentation and clients say.
- **The identities**: tokens are asked for and audiences checked, but who may do what is decided by role
  assignments that only Azure evaluates. `landfall doctor` asks Azure about each.
- **Event Grid's delivery**: filters, retries, order and the webhook handshake of the real service, and the dead-letter
  container.
- **Copies by the endpoint**: `mirror_traffic` is set and read back; that Azure ML copies what reaches the endpoint
  without a deployment's name, and where, was not seen. What a rollout judges are the copies that scoring makes.
- **The Functions host**: scaling, cold starts of a Flex Consumption instance, its own queue polling.
- **infra/**: the Bicep files are parsed and compared with the code, but no compiler has read them and nothing was
  deployed with them.
- **Spark's lake**: PySpark reads and writes files of this machine that the stand-in brings from and to Azurite; the
  abfss driver and Synapse's own build of Spark and Delta Lake have not run.
- **A Synapse SQL pool**: reading from one, and copying predictions into one, are written after its documentation.
- **Images**: environments are sent and checked, but not built; jobs and deployments run with the test's own packages.
"""


@dataclass(frozen=True)
class Gap:
    """A test of ``suite`` (its name in words) that is expected to fail on ``backend``, with the reason."""

    suite: str
    what: str
    backend: str
    reason: str


def gaps() -> Iterator[Gap]:
    """All gaps that the suites are marked with, in their order."""
    for path in sorted(SUITES.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.gap":
                    backend, reason = (ast.literal_eval(argument) for argument in mark.args)
                    words = node.name.removeprefix("test_").replace("_", " ")
                    yield Gap(path.stem.removeprefix("test_").replace("_", " "), words, backend, reason)


def page() -> str:
    """The page in Markdown."""
    rows = (f"| {gap.suite} | {gap.what} | {BACKENDS[gap.backend]} | {gap.reason} |\n" for gap in gaps())
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    print(page(), end="")

"""azure.yaml, its hooks and parameters fit the Bicep."""

from __future__ import annotations

import json
import os
import re
import subprocess

import yaml

from tests.infra.bicep import read
from tests.infra.test_bicep import INFRA

ROOT = INFRA.parent
PROJECT = yaml.safe_load((ROOT / "azure.yaml").read_text(encoding="utf-8"))
MAIN = read(INFRA / "main.bicep")
AZD = {"AZURE_ENV_NAME", "AZURE_LOCATION", "AZURE_PRINCIPAL_ID", "AZURE_PRINCIPAL_TYPE"}
"""Variables that azd itself sets."""


def test_the_service_is_the_function_app_of_the_bicep() -> None:
    ((name, service),) = PROJECT["services"].items()
    assert (service["host"], service["language"], service["project"]) == ("function", "py", ".")
    app = read(INFRA / "modules" / "function-app.bicep").resources["app"]
    assert f"'azd-service-name': '{name}'" in app.body["tags"]
    assert (ROOT / PROJECT["infra"]["path"] / f"{PROJECT['infra']['module']}.bicep").is_file()


def test_hooks_run_at_the_right_time_and_are_shell() -> None:
    hooks = {moment: ROOT / hook["run"] for moment, hook in PROJECT["hooks"].items()}
    # Event Grid takes a subscription only when its function is deployed.
    assert {moment: path.name for moment, path in hooks.items()} == {
        "postprovision": "synapse-role.sh",
        "postdeploy": "subscribe.sh",
    }
    for path in hooks.values():
        assert os.access(path, os.X_OK)
        assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
        assert re.search("^set -eu$", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_hooks_use_what_the_bicep_gives_out() -> None:
    hooks = list((INFRA / "hooks").iterdir())
    assert hooks
    for path in hooks:
        used = set(re.findall(r"\$\{?([A-Z_]+)", path.read_text(encoding="utf-8")))
        assert used <= set(MAIN.outputs), path.name


def test_the_subscriptions_get_every_parameter_that_has_no_default() -> None:
    hook = (INFRA / "hooks" / "subscribe.sh").read_text(encoding="utf-8")
    declared = read(INFRA / "subscriptions.bicep").params
    given = set(re.findall(r'\b([a-zA-Z]+)="\$', hook))
    assert {name for name, (_, default) in declared.items() if not default} <= given <= set(declared)


def test_parameters_are_those_of_the_bicep() -> None:
    parameters = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    assert set(parameters) <= set(MAIN.params)
    assert {name for name, (_, default) in MAIN.params.items() if not default} <= set(parameters)
    for parameter in parameters.values():
        variable, default = re.fullmatch(r"\$\{(\w+)(=.*)?\}", parameter["value"]).groups()
        assert default or variable in AZD


def test_what_is_not_the_app_stays_at_home() -> None:
    ignored = (ROOT / ".funcignore").read_text(encoding="utf-8").split()
    assert {"infra", "tests", "docs", "landfall", "local.settings*.json"} <= set(ignored)

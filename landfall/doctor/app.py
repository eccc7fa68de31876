"""The function app as it is deployed: its identity, its settings and its functions."""

from __future__ import annotations

from collections.abc import Iterator

from landfall.doctor.finding import Check, Finding
from landfall.session import fresh_app
from landfall.setup.estate import WEB, Estate
from shared.adapters.azure.workspace import ARM

FORBIDDEN = "Let who runs doctor read the function app: it needs the role Website Contributor, or Contributor, there."
NO_APP = "Set LANDFALL_FUNCTION_APP to the name of the function app, and deploy it with azd up."
SAME_HERE = {
    "LANDFALL_LAKE_ACCOUNT": "account",
    "LANDFALL_LAKE_CONTAINER": "container",
    "LANDFALL_WORKSPACE": "workspace",
    "LANDFALL_SYNAPSE": "synapse",
    "LANDFALL_SPARK_POOL": "spark_pool",
    "LANDFALL_EVENTS_TOPIC": "events_topic",
    "LANDFALL_RESOURCE_GROUP": "resource_group",
    "AzureWebJobsStorage__accountName": "app_account",
}
"""App settings that have to be what doctor itself was given."""


def identity(estate: Estate) -> Check:
    """A user-assigned identity is used only when AZURE_CLIENT_ID names it; the classic fault is that it does not."""

    def look() -> Iterator[Finding]:
        client, given = estate.app_identity["clientId"], estate.app_settings.get("AZURE_CLIENT_ID", "")
        change = f"az functionapp config appsettings set --name {estate.settings.function_app}"
        change += f" --resource-group {estate.settings.resource_group} --settings AZURE_CLIENT_ID={client}"
        if given.lower() == client.lower():
            yield check.ok(f"AZURE_CLIENT_ID names it ({client})" if client else "it is the system-assigned one")
        elif not client:
            yield check.wrong(f"AZURE_CLIENT_ID is {given}, and the app has no user-assigned identity", change)
        elif not given:
            yield check.wrong(f"AZURE_CLIENT_ID is not set, and the app's identity {client} is never used", change)
        else:
            yield check.wrong(f"AZURE_CLIENT_ID is {given}, and the app's identity is {client}", change)

    check = Check(
        name="app identity",
        subject=estate.settings.function_app,
        look=look,
        forbidden=FORBIDDEN,
        missing="Deploy the app with azd up: infra/ gives it its identity.",
        audience=ARM,
    )
    return check


def app_settings(estate: Estate) -> Check:
    """The app works with the resources that doctor examines."""

    def look() -> Iterator[Finding]:
        given = estate.app_settings
        backend = given.get("LANDFALL_BACKEND", "local")
        if backend != "azure":
            yield check.wrong(f"LANDFALL_BACKEND is {backend} there", "Set it to azure in the app.")
        differing = False
        for name, field in SAME_HERE.items():
            here = str(getattr(estate.settings, field))
            there = given.get(name, "lake" if name == "LANDFALL_LAKE_CONTAINER" else "")
            if there.rstrip("/") != here.rstrip("/"):
                differing = True
                cure = "Set it in the app, or, if the app is right, in the environment that doctor runs in."
                yield check.wrong(f"{name} is {there or 'not set'} there and {here} here", cure)
        if backend == "azure" and not differing:
            yield check.ok("name what is examined here")

    check = Check(
        name="app settings",
        subject=estate.settings.function_app,
        look=look,
        forbidden=FORBIDDEN,
        missing=NO_APP,
        audience=ARM,
    )
    return check


def functions(estate: Estate) -> Check:
    """Every function of this code is deployed and switched on."""

    def look() -> Iterator[Finding]:
        estate.arm.get(estate.app, WEB)
        listed = {
            str(found["name"]).rpartition("/")[2]: bool(found["properties"].get("isDisabled"))
            for found in estate.arm.list(f"{estate.app}/functions", WEB)
        }
        wanted = {str(function.get_function_name()) for function in fresh_app().get_functions()}
        absent = sorted(wanted - set(listed))
        if absent:
            cure = "Deploy the code: azd deploy. If it was, the app's log stream says why a function is not indexed."
            yield check.wrong(f"the app has no function {', '.join(absent)}", cure)
        for name in sorted(wanted & {name for name, disabled in listed.items() if disabled}):
            yield check.wrong(f"function {name} is switched off", f"Remove AzureWebJobs.{name}.Disabled from the app.")
        if not absent and not any(listed.values()):
            yield check.ok(f"all {len(wanted)} are deployed")

    check = Check(
        name="functions",
        subject=estate.settings.function_app,
        look=look,
        forbidden=FORBIDDEN,
        missing=NO_APP,
        audience=ARM,
    )
    return check

"""The model registry: MLflow on SQLite, with the models' files below the home folder."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from shared.adapters.local import tracking
from shared.adapters.local.processes import Processes
from shared.adapters.local.spool import azureml_model_event, raise_event
from shared.adapters.local.training_service import TOPIC
from shared.domain.signature import SignatureColumn
from shared.errors import Missing, Rejected
from shared.models.model_signature import signature_of
from shared.ports.model_registry import ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

RUN_TAG, JOB_TAG = "landfall.run", "landfall.job"


class MlflowRegistry:
    """The ModelRegistry port. MLflow is the truth: versions that were registered by hand count, too.

    The files of a version are a copy, in mlflow/models/<name>/<job>/model below ``home``. The mark
    ``announced`` beside it says that the ModelRegistered event is in the spool; a crash before that is
    mended by the next call for the same job, and seen meanwhile by whoever compares ``versions`` with
    what he knows.
    """

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._processes = Processes(home)

    def register(self, name: str, *, job: str, output: str, tags: dict[str, str]) -> ModelVersion:
        folder = tracking.models(self._home) / name / job
        version = self._of_job(name, job)
        if version is None:
            with tracking.locked(self._home):
                version = self._of_job(name, job) or self._create(name, folder, job, output, tags)
        if not (folder / "announced").exists():
            event = azureml_model_event(model=name, version=str(version.version), tags=version.tags)
            raised_at = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
            raise_event(self._home, **event, event_time=raised_at, topic=TOPIC)
            (folder / "announced").touch()
        return self._version(version)

    def get(self, name: str, version: str) -> ModelVersion | None:
        found = self._find(name, version)
        return None if found is None else self._version(found)

    def versions(self, name: str) -> Iterator[ModelVersion]:
        yield from map(self._version, self._all(name))

    def set_alias(self, name: str, alias: str, version: str) -> None:
        if self._find(name, version) is None:
            raise Missing(f"{name} has no version {version} that the alias {alias} could point at")
        self._client.set_registered_model_alias(name, alias, version)

    def alias(self, name: str, alias: str) -> str | None:
        from mlflow import MlflowException

        try:
            model = self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        version = model.aliases.get(alias)
        return None if version is None else str(version)

    def model_folder(self, name: str, version: str) -> Path:
        """The folder of a version's MLflow model, to be read only. Raises Missing when there is none."""
        for folder in self._places(name, version):
            if (folder / "MLmodel").is_file():
                return folder
        raise Missing(f"there is no model {name} version {version} with its files on this machine")

    def _places(self, name: str, version: str) -> Iterator[Path]:
        """Where the files of a version may be: where MLflow says, and below the home where it has moved since.

        Asked of MLflow's table itself: MLflow takes seconds to start, for which somebody would wait who scores.
        """
        query = "SELECT coalesce(storage_location, source) FROM model_versions WHERE name = ? AND version = ?"
        database = tracking.database(self._home)
        if not database.exists() or not version.isdecimal():
            return
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            found = connection.execute(query, (name, int(version))).fetchone()
        address = urlsplit((found[0] if found else None) or "")
        if address.scheme in ("", "file") and address.path:
            place = Path(unquote(address.path))
            yield place
            yield tracking.models(self._home) / name / place.parent.name / place.name

    def _create(self, name: str, folder: Path, job: str, output: str, tags: dict[str, str]) -> MlflowVersion:
        """Copy the model's files and make the version; called with the lock held."""
        from mlflow import MlflowException

        made = self._processes.folder(job) / "outputs" / output
        if not (made / "MLmodel").is_file():
            raise Rejected(
                f"output {output} of job {job} holds no MLflow model: "
                f"the script must save one there with mlflow.<flavor>.save_model"
            )
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE":
                raise Rejected(f"{name!r} cannot name a model: {error}") from error
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # What a crash left is not trusted, and no version points at it yet.
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder / "model")
        source = str(folder / "model")
        return self._client.create_model_version(name, source, tags={**tags, JOB_TAG: job})

    def _of_job(self, name: str, job: str) -> MlflowVersion | None:
        return next((version for version in self._all(name) if version.tags.get(JOB_TAG) == job), None)

    def _all(self, name: str) -> list[MlflowVersion]:
        """All versions of a model, oldest first."""
        if "'" in name:
            return []
        page = self._client.search_model_versions(f"name = '{name}'")
        found = list(page)
        while page.token:
            page = self._client.search_model_versions(f"name = '{name}'", page_token=page.token)
            found += page
        return sorted(found, key=lambda version: int(version.version))

    def _find(self, name: str, version: str) -> MlflowVersion | None:
        from mlflow import MlflowException

        if not version.isdecimal():
            return None
        try:
            return self._client.get_model_version(name, version)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _version(self, version: MlflowVersion) -> ModelVersion:
        signatures = map(read_signature, self._places(version.name, str(version.version)))
        return ModelVersion(
            name=version.name,
            version=str(version.version),
            created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            run=version.tags.get(RUN_TAG, ""),
            job=version.tags.get(JOB_TAG, ""),
            tags=dict(version.tags),
            signature=next(filter(None, signatures), ()),
        )

    @cached_property
    def _client(self) -> MlflowClient:
        tracking.ensure(self._home)
        tracking.hush()
        from mlflow import MlflowClient

        address = tracking.uri(self._home)
        return MlflowClient(tracking_uri=address, registry_uri=address)


def read_signature(folder: Path) -> tuple[SignatureColumn, ...]:
    """The input columns of an MLflow model's signature in order; empty when they have no names or types of ours."""
    try:
        return signature_of((folder / "MLmodel").read_bytes())
    except FileNotFoundError:
        return ()

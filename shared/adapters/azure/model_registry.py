"""The model registry of an Azure ML workspace: versions that we number, aliases as tags on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.adapters.azure.failures import translated
from shared.adapters.azure.job_files import JobFiles
from shared.adapters.azure.workspace import Workspace
from shared.domain.signature import SignatureColumn
from shared.errors import Conflict, Missing, Rejected, Transient
from shared.models.model_signature import signature_of
from shared.ports.model_registry import ModelVersion

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model

RUN_TAG, JOB_TAG, ALIAS_TAG = "landfall.run", "landfall.job", "landfall.alias."
"""The alias tag of a version holds a number: where two versions have the tag, the higher number has the alias."""
ATTEMPTS = 5

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}")


class AzureModelRegistry:
    """The ModelRegistry port. Versions whose name is no number were made by others and are not seen.

    A version points at the output of its job, where its files stay; its signature is read from there
    and remembered. Azure ML itself raises the ModelRegistered event.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._files = JobFiles(workspace)
        self._signatures: dict[str, tuple[SignatureColumn, ...]] = {}

    def register(self, name: str, *, job: str, output: str, tags: dict[str, str]) -> ModelVersion:
        """See :meth:`ModelRegistry.register`.

        The version is our own number: the SDK's would be given anew at each try. Two that race for one
        number are told apart by the service, which takes only one; the other looks again.
        """
        if not _NAME.fullmatch(name):
            raise Rejected(f"{name!r} cannot name a model: use up to 255 letters, digits, dots, dashes and underscores")
        place = f"azureml://jobs/{job}/outputs/{output}"
        for _ in range(ATTEMPTS):
            present = self._all(name)
            made = next((model for model in present if (model.tags or {}).get(JOB_TAG) == job), None)
            if made is not None:
                return self._version(made)
            try:
                self._files.read(place, "MLmodel")
            except Missing as error:
                raise Rejected(
                    f"output {output} of job {job} holds no MLflow model: "
                    f"the script must save one there with mlflow.<flavor>.save_model"
                ) from error
            number = str(max((int(str(model.version)) for model in present), default=0) + 1)
            try:
                return self._version(self._create(name, number, place, {**tags, JOB_TAG: job}))
            except (Conflict, Rejected):
                # Only somebody who was quicker with this number explains it; anything else is not ours to mend.
                if self._find(name, number) is None:
                    raise
        raise Transient(f"others register versions of {name} all the time; try again")

    def get(self, name: str, version: str) -> ModelVersion | None:
        """See :meth:`ModelRegistry.get`."""
        found = self._find(name, version)
        return None if found is None else self._version(found)

    def versions(self, name: str) -> Iterator[ModelVersion]:
        """See :meth:`ModelRegistry.versions`."""
        yield from map(self._version, self._all(name))

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """See :meth:`ModelRegistry.set_alias`."""
        tag = ALIAS_TAG + alias
        present = self._all(name)
        wanted = next((model for model in present if str(model.version) == version), None)
        if wanted is None:
            raise Missing(f"{name} has no version {version} that the alias {alias} could point at")
        turns = {str(model.version): _turn(model, tag) for model in present}
        last = max(turns.values())
        if turns[version] == last > 0:
            return
        wanted.tags = {**(wanted.tags or {}), tag: str(last + 1)}
        with translated(f"point alias {alias} of {name} at version {version}"):
            self._workspace.client.models.create_or_update(wanted)

    def alias(self, name: str, alias: str) -> str | None:
        """See :meth:`ModelRegistry.alias`."""
        tag = ALIAS_TAG + alias
        newest = max(self._all(name), key=lambda model: _turn(model, tag), default=None)
        return None if newest is None or not _turn(newest, tag) else str(newest.version)

    def _create(self, name: str, version: str, place: str, tags: dict[str, str]) -> Model:
        """Make the version. Raises Transient when it is not known whether it was made: the next look tells."""
        from azure.ai.ml.entities import Model

        model = Model(name=name, version=version, type="mlflow_model", path=place, tags=tags)
        try:
            with translated(f"register version {version} of {name}"):
                return self._workspace.client.models.create_or_update(model)
        except Transient:
            made = self._find(name, version)
            if made is None or (made.tags or {}).get(JOB_TAG) != tags[JOB_TAG]:
                raise
            return made

    def _all(self, name: str) -> list[Model]:
        """All versions, oldest first."""
        if not _NAME.fullmatch(name):
            return []
        try:
            with translated(f"list the versions of model {name}"):
                found = list(self._workspace.client.models.list(name))
        except Missing:
            return []
        return sorted((m for m in found if str(m.version).isdecimal()), key=lambda model: int(str(model.version)))

    def _find(self, name: str, version: str) -> Model | None:
        if not version.isdecimal() or not _NAME.fullmatch(name):
            return None
        try:
            with translated(f"look up version {version} of model {name}"):
                return self._workspace.client.models.get(name, version)
        except Missing:
            return None

    def _version(self, model: Model) -> ModelVersion:
        tags = {tag: value for tag, value in (model.tags or {}).items() if not tag.startswith(ALIAS_TAG)}
        made = getattr(model.creation_context, "created_at", None) or datetime.fromtimestamp(0, UTC)
        return ModelVersion(
            name=str(model.name),
            version=str(model.version),
            created_at=made if made.tzinfo else made.replace(tzinfo=UTC),
            run=tags.get(RUN_TAG, ""),
            job=tags.get(JOB_TAG, ""),
            tags=tags,
            signature=self._signature(model),
        )

    def _signature(self, model: Model) -> tuple[SignatureColumn, ...]:
        """Remembered, because versions do not change. Not known when the files are outside the workspace's reach."""
        key = f"{model.name}:{model.version}"
        if key not in self._signatures:
            try:
                text = self._files.read(str(model.path), "MLmodel")
            except (Missing, Rejected):
                return ()
            self._signatures[key] = signature_of(text)
        return self._signatures[key]


def _turn(model: Model, tag: str) -> int:
    """The number in an alias tag, 0 when there is none."""
    value = (model.tags or {}).get(tag, "")
    return int(value) if value.isdecimal() else 0

"""Runs in MLflow: one parent per study, children for the Pareto set and the incumbent.

A study's trials are one table artifact: hundreds of child runs would be slow to write and
slower to read. Every call goes through `MlflowClient`, so that no global state is touched.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.errors import RunError
from experiments.manifest import Manifest
from experiments.workspace import Workspace, held_alone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

EXPERIMENT = "remargin"
LATEST = "latest"
_BATCH = 1000
_SQLITE = "sqlite:///"
_PATIENCE_S = 120.0
"""The first process of a workspace makes its database, for some seconds; the others wait."""
_KIND, _NAME, _PARENT, _QUESTION = (
    "remargin.kind", "mlflow.runName", "mlflow.parentRunId", "remargin.question",
)  # fmt: skip


@dataclass(frozen=True)
class RunRecord:
    """A tracked run as lists show it.

    Parameters
    ----------
    run_id
        MLflow's id, 32 hex digits; any unambiguous beginning names the run.
    kind, name, question
        What it was and what it asked.
    started_ms, ended_ms
        UTC; ``ended_ms`` is None while it runs.
    status
        ``FINISHED``, ``RUNNING`` or ``FAILED``.
    metrics
        Headline numbers by key.
    tags
        Digests of the inputs, the commit, and MLflow's own.
    """

    run_id: str
    kind: str
    name: str
    question: str
    started_ms: int
    ended_ms: int | None
    status: str
    metrics: dict[str, float]
    tags: dict[str, str]


class Tracker:
    """The tracked runs of a workspace, or of any MLflow server.

    Parameters
    ----------
    uri
        MLflow tracking URI; the workspace's own database if not given.
    workspace
        Where that database and its artifacts live.
    """

    def __init__(self, uri: str | None = None, workspace: Workspace | None = None) -> None:
        self._workspace = workspace or Workspace.default()
        self.uri = uri or self._workspace.tracking_uri

    @property
    def _client(self) -> MlflowClient:
        if self.uri.startswith("sqlite:"):
            self._workspace.home.mkdir(parents=True, exist_ok=True)
        return _connect(self.uri)

    @contextmanager
    def start(
        self, manifest: Manifest, name: str, question: str = "", parent: str | None = None
    ) -> Iterator[OpenRun]:
        """Open a run; it ends as FINISHED, or as FAILED if the block raises.

        Parameters
        ----------
        manifest
            Stored as ``manifest.json``; its digests become tags.
        name, question
            How lists call the run, and what it asks.
        parent
            Id of the study that a child belongs to.
        """
        tags = {
            _KIND: manifest.kind,
            _NAME: name,
            _QUESTION: question,
            "remargin.tape_digest": manifest.tape_digest,
            "remargin.book_digest": manifest.book_digest,
            "remargin.config_hash": manifest.config_hash,
            "remargin.commit": manifest.commit or "none",
        }
        if manifest.snapshot_digest:
            tags["remargin.snapshot"] = f"{manifest.snapshot_name} {manifest.snapshot_digest}"
        if parent:
            tags[_PARENT] = parent
        client = self._client
        run = client.create_run(self._experiment(client), tags=tags, run_name=name)
        opened = OpenRun(client, run.info.run_id)
        try:
            if parent is None:
                opened.text("manifest.json", manifest.to_json())
            yield opened
        except BaseException:
            client.set_terminated(run.info.run_id, "FAILED")
            raise
        client.set_terminated(run.info.run_id, "FINISHED")

    def list_runs(self, limit: int = 100) -> list[RunRecord]:
        """List the runs, newest first, children of studies left out."""
        client = self._client
        found = client.search_runs(
            [self._experiment(client)],
            f"tags.`{_KIND}` != 'trial'",
            order_by=["attributes.start_time DESC"],
            max_results=limit,
        )
        return [_record(run) for run in found]

    def find_run(self, text: str) -> RunRecord:
        """Find a run by its id, by an unambiguous beginning of it, or as ``latest``.

        Raises
        ------
        RunError
            If no finished run, or more than one, answers to the text.
        """
        runs = self.list_runs(limit=1000)
        if text == LATEST:
            finished = [run for run in runs if run.status == "FINISHED"]
            if not finished:
                raise RunError("there is no finished run yet; start with 'remargin replay CONFIG'.")
            return finished[0]
        found = [run for run in runs if run.run_id.startswith(text)] if text else []
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(run.run_id[:8] for run in found[:5])
            raise RunError(f"{len(found)} runs begin with {text!r}: {ids}; give more characters.")
        newest = f" The newest is {runs[0].run_id[:8]}." if runs else " There are no runs yet."
        raise RunError(f"there is no run {text!r}.{newest}")

    def artifacts(self, run_id: str) -> Path:
        """Return a folder with the run's files; from a server, a downloaded copy.

        Raises
        ------
        RunError
            If the files are gone.
        """
        from mlflow.exceptions import MlflowException

        try:
            return Path(self._client.download_artifacts(run_id, ""))
        except (MlflowException, OSError) as error:
            raise RunError(f"the files of run {run_id[:8]} cannot be read: {error}") from None

    def manifest(self, run_id: str) -> Manifest:
        """Read the manifest of a run."""
        path = self.artifacts(run_id) / "manifest.json"
        if not path.is_file():
            raise RunError(f"run {run_id[:8]} has no manifest; it was not finished.")
        return Manifest.from_json(path.read_text(encoding="utf-8"))

    def _experiment(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        local = self.uri.startswith("sqlite:")
        location = self._workspace.artifacts.resolve().as_uri() if local else None
        return str(client.create_experiment(EXPERIMENT, artifact_location=location))


class OpenRun:
    """A run that is being written."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def numbers(self, metrics: Mapping[str, float], params: Mapping[str, Any]) -> None:
        """Log metrics and parameters in one call; what is not finite is left to the files."""
        from mlflow.entities import Metric, Param

        finite = [Metric(k, v, 0, 0) for k, v in metrics.items() if math.isfinite(v)]
        texts = [Param(key, str(value)) for key, value in params.items()]
        self._client.log_batch(self.run_id, finite[:_BATCH], texts[:100])

    def text(self, name: str, content: str) -> None:
        """Store a text file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(content, encoding="utf-8")
            self.file(path)

    def file(self, path: Path) -> None:
        """Store one file."""
        self._client.log_artifact(self.run_id, str(path))

    def folder(self, path: Path) -> None:
        """Store every file of a folder."""
        self._client.log_artifacts(self.run_id, str(path))


def flat_parameters(identity: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a policy's identity to dotted names."""
    flat: dict[str, Any] = {}
    for key, value in identity.items():
        if isinstance(value, dict):
            flat |= flat_parameters(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            flat[f"{prefix}{key}"] = json.dumps(value)
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@lru_cache(maxsize=8)
def _connect(uri: str) -> MlflowClient:
    """Open a client, with telemetry off before mlflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # Alembic reports each of its dozens of schema steps when a database is new.
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # MLflow's own use of old SQLAlchemy forms; nothing that a user could act on.
        warnings.simplefilter("ignore", DeprecationWarning)
        from mlflow.tracking import MlflowClient

        file = uri.removeprefix(_SQLITE)
        try:
            if file == uri:
                return MlflowClient(tracking_uri=uri)
            with held_alone(Path(file), patience_s=_PATIENCE_S):
                return MlflowClient(tracking_uri=uri)
        except RunError:
            raise
        except Exception as error:  # of SQLite, SQLAlchemy, Alembic or MLflow
            problem = str(error).partition("\n")[0]
            raise RunError(f"the runs at {uri} cannot be opened: {problem}.") from error


def _record(run: Run) -> RunRecord:
    tags = dict(run.data.tags)
    return RunRecord(
        run_id=run.info.run_id,
        kind=tags.get(_KIND, ""),
        name=tags.get(_NAME, ""),
        question=tags.get(_QUESTION, ""),
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time,
        status=run.info.status,
        metrics=dict(run.data.metrics),
        tags=tags,
    )

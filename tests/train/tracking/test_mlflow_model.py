"""The registered model: what `stillwatch score` says, to the last bit, from Python and over MLflow's own server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from serve.cli import main as stillwatch
from serve.sessions.records import Session
from train.tracking import mlflow_runs as tracking
from train.tracking import registry
from train.tracking.mlflow_runs import connect, tracked

COLUMNS = ("account_id", "prompt", "session_id", "at")


@dataclass(frozen=True)
class Registered:
    """A store with the tiny bundle as champion, exchanges, and the command's verdicts on them."""

    uri: str
    folder: Path
    exchanges: pd.DataFrame
    verdicts: list[dict[str, Any]]


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, bundle_folder: Path, sessions: tuple[Session, ...]
) -> Iterator[Registered]:
    folder = tmp_path_factory.mktemp("registered")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    rows = [
        {"account_id": own.account_id, "prompt": part.prompt, "session_id": own.session_id, "at": part.at}
        for own in sessions
        for part in own.exchanges
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    lines = [json.dumps({key: value for key, value in rows[i].items() if value is not None}) for i in order]
    (folder / "exchanges.jsonl").write_text("\n".join(lines), encoding="utf-8")
    out = folder / "verdicts.jsonl"
    command = ["score", str(folder / "exchanges.jsonl"), "--out", str(out), "--bundle", str(bundle_folder)]
    assert stillwatch(command) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracked("tiny", "tests", {}, {}):
            registry.register(bundle_folder)
        frame = pd.DataFrame([rows[i] for i in order], columns=list(COLUMNS))
        verdicts = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        yield Registered(f"sqlite:///{folder}/mlruns/mlflow.db", folder, frame, verdicts)


def test_a_loaded_model_gives_the_verdicts_of_the_command(registered: Registered) -> None:
    connect("tests")
    model = mlflow.pyfunc.load_model("models:/stillwatch@champion")
    found = model.predict(registered.exchanges)
    assert json.loads(json.dumps(found.to_dict("records"))) == registered.verdicts
    assert any(verdict["label"] == "harvesting" for verdict in registered.verdicts)


def test_the_server_gives_the_verdicts_of_the_command(registered: Registered) -> None:
    split = json.loads(registered.exchanges.to_json(orient="split", index=False, double_precision=15))
    split["data"].insert(1, [" " if name == "prompt" else "left-out" for name in split["columns"]])
    split["data"][1][split["columns"].index("at")] = None
    with serving(registered) as url:
        assert post(url, {"dataframe_split": split})["predictions"] == registered.verdicts
        blank = {"dataframe_records": [{"account_id": "a", "prompt": " "}]}
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(url, blank)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(url, {"dataframe_records": [{"account": "a", "prompt": "hello"}]})


def test_optional_columns_may_be_left_out(registered: Registered) -> None:
    connect("tests")
    model = mlflow.pyfunc.load_model("models:/stillwatch@champion")
    found = model.predict(pd.DataFrame({"account_id": ["a", "a"], "prompt": ["fix the bug", "sort a list"]}))
    assert found["n_exchanges"].tolist() == [2]
    assert found["started_at"].tolist() == [None]


def test_times_may_have_any_form_that_files_have(registered: Registered) -> None:
    connect("tests")
    model = mlflow.pyfunc.load_model("models:/stillwatch@champion")
    times = ["2026-11-30T10:00:00Z", 1_796_032_860.0, "1796032920", None]
    rows = {"account_id": ["a"] * 4, "prompt": ["sort a list"] * 4, "at": pd.Series(times, dtype=object)}
    (found,) = model.predict(pd.DataFrame(rows)).to_dict("records")
    assert (found["n_exchanges"], found["started_at"]) == (4, "2026-11-30T10:00:00.000Z")
    assert found["ended_at"] == "2026-11-30T10:02:00.000Z"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"account_id": ["a", ""], "prompt": [" ", "hello"]}, "row 1: prompt is blank"),
        ({"account_id": [""], "prompt": ["hello"]}, "row 1: account_id is missing"),
        ({"account_id": [], "prompt": []}, "0 rows"),
    ],
)
def test_a_row_that_is_no_exchange_is_named_and_never_quoted(
    registered: Registered, rows: dict[str, list[str]], said: str
) -> None:
    connect("tests")
    model = mlflow.pyfunc.load_model("models:/stillwatch@champion")
    with pytest.raises(ValueError, match=said) as caught:
        model.predict(pd.DataFrame(rows, dtype=object))
    assert "secret" not in str(caught.value)


def test_the_model_is_code_and_a_bundle_with_a_signature_and_no_pickle(registered: Registered) -> None:
    connect("tests")
    folder = tracking.downloaded("models:/stillwatch@champion")
    names = {path.name for path in folder.rglob("*")}
    assert {"MLmodel", "mlflow_model.py", "manifest.json", "requirements.txt", "input_example.json"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".cloudpickle"))]
    described = (folder / "MLmodel").read_text(encoding="utf-8")
    assert "account_id" in described
    assert "p_value" in described
    assert "cloudpickle" not in (folder / "requirements.txt").read_text(encoding="utf-8")
    assert not (folder / "code" / "serve" / "released").exists()


def test_requirements_are_pinned_to_what_judges_here(registered: Registered) -> None:
    pins = dict(line.split("==") for line in tracking.requirements())
    assert pins["numpy"] == np.__version__
    assert {"faiss-cpu", "lightgbm", "model2vec", "tokenizers", "mlflow", "pyarrow", "safetensors", "scipy"} <= set(
        pins
    )


class serving:  # noqa: N801 - reads as what it does
    """`mlflow models serve` for as long as the block lasts."""

    def __init__(self, registered: Registered) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [
            str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", "models:/stillwatch@champion",
            "--env-manager", "local", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
        ]  # fmt: skip
        here = str(Path(sys.executable).parent)  # where uvicorn is, should the environment not be activated
        environment = {
            **os.environ, "MLFLOW_TRACKING_URI": registered.uri, "PATH": f"{here}:{os.environ['PATH']}",
        }  # fmt: skip
        self.log = registered.folder / "server.log"
        self.process = subprocess.Popen(
            command, cwd=registered.folder, env=environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> str:
        url = f"http://127.0.0.1:{self.port}"
        for _ in range(240):
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=2)
            except OSError:
                time.sleep(0.25)
            else:
                return f"{url}/invocations"
        raise AssertionError(self.log.read_text())

    def __exit__(self, *fault: object) -> None:
        os.killpg(self.process.pid, 15)
        self.process.wait(timeout=30)


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found

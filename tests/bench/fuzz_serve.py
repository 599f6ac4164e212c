"""Thousands of requests made from the OpenAPI document, alone and in chains: `make fuzz-serve`.

Every answer must be below 500 (or 503), and must be one that the document names. Exits with 1 where one isn't.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
import unittest
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.http.app import create_app  # noqa: E402
from serve.http.problems import ProblemError  # noqa: E402
from serve.http.request_bodies import parse  # noqa: E402
from serve.http.schemas import ExchangesIn, ScoreIn  # noqa: E402
from serve.http.service import ServiceSettings  # noqa: E402

NAMES = ("sessions", "exchanges", "prompt", "at", "account_id", "session_id", "system", "explain")

QUIET: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
QUIET |= {"phases": [Phase.generate], "derandomize": True}


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=5),
    max_leaves=15,
)


def fuzz_parsers(n_cases: int, seen: collections.Counter[tuple[str, int]], faults: list[str]) -> None:
    """Bodies of any JSON, of JSON with noise and of noise: a record comes out, or a problem below 500."""

    @settings(max_examples=n_cases, **QUIET)
    @given(st.one_of(VALUES.map(lambda value: json.dumps(value).encode()), st.binary()), st.binary(max_size=2))
    def parsed(body: bytes, noise: bytes) -> None:
        for model in (ScoreIn, ExchangesIn):
            try:
                parse(body + noise, model)
                status = 200
            except ProblemError as problem:
                status = problem.status
            seen[(f"parse {model.__name__}", status)] += 1
            if status >= 500:
                faults.append(f"parse {model.__name__}: {status}")

    parsed()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(ServiceSettings(bundle=options.bundle)))
    seen: collections.Counter[tuple[str, int]] = collections.Counter()
    faults: list[str] = []
    began_at = time.perf_counter()

    def check(label: str, status: int, known: set[str]) -> None:
        seen[(label, status)] += 1
        if (status >= 500 and status != 503) or str(status) not in known | {"404", "405"}:
            faults.append(f"{label}: {status}")

    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        known = set(map(str, operation.definition.raw["responses"]))

        @settings(max_examples=options.cases // len(operations), **QUIET)
        @given(case=operation.as_strategy())
        def alone(case: Any) -> None:
            check(operation.label, case.call().status_code, known)  # noqa: B023 (called before the next turn)

        alone()
    fuzz_parsers(options.cases, seen, faults)
    machine: Any = schema.as_state_machine()

    class Chain(machine):  # type: ignore[misc]
        def validate_response(self, response: Any, case: Any, **given: Any) -> None:
            check(f"then {case.operation.label}", response.status_code, set(map(str, range(200, 500))) | {"503"})

    Chain.TestCase.settings = settings(max_examples=max(1, options.cases // 100), stateful_step_count=8, **QUIET)
    result = unittest.TextTestRunner(stream=open("/dev/null", "w")).run(  # noqa: SIM115
        unittest.defaultTestLoader.loadTestsFromTestCase(Chain.TestCase)
    )
    faults += [text.splitlines()[-1] for _, text in (*result.errors, *result.failures)]
    for (label, status), count in sorted(seen.items()):
        print(f"{count:7,} {status} {label}")
    print(f"{sum(seen.values()):,} cases in {time.perf_counter() - began_at:.0f} s, {len(faults)} faults")
    print("\n".join(sorted(set(faults))[:20]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

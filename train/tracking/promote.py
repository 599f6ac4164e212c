"""Promote: `python -m train.promote` holds the challenger against the champion; it takes over if no gate falls."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from train.config.settings import TrackingSettings
from train.evaluation.promotion_gates import PromotionGate, gates, learned_from, read_exam, score_exam
from train.synthesis.traffic_files import HELD_OUT
from train.tracking import mlflow_runs as tracking
from train.tracking import registry

RECORDS = Path("mlruns") / "promotions"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the challenger takes over, and everything that the decision rests on."""

    champion: registry.Version
    challenger: registry.Version
    gates: tuple[PromotionGate, ...]
    seen: tuple[str, ...]
    exam: str

    @property
    def fallen(self) -> tuple[str, ...]:
        """Names of the gates that fell."""
        return tuple(gate.name for gate in self.gates if not gate.holds)

    def record(self) -> Mapping[str, Any]:
        """The decision in writing, as plain values."""
        verdict = f"refused: {', '.join(self.fallen)}" if self.fallen else "promoted"
        return {
            "decision": f"{verdict} (bundle {self.challenger.bundle_id} against {self.champion.bundle_id})",
            "champion": asdict(self.champion),
            "challenger": asdict(self.challenger),
            "exam": self.exam,
            "learned_from": list(self.seen),
            "gates": [asdict(gate) for gate in self.gates],
        }


def decide(exam_folder: Path | None, *, allow_seen: bool = False) -> Decision:
    """Hold the challenger against the champion on the exam in a folder, or on what the challenger held out.

    Raises:
        ValueError: when there are no two versions or no exam, or one of the two learned from the exam's campaigns.
    """
    champion, challenger = registry.holder(registry.CHAMPION), registry.holder(registry.CHALLENGER)
    if champion is None or challenger is None:
        raise ValueError("there is no challenger to a champion, expected a run with tracking.register=true")
    folder = exam_folder or HELD_OUT / challenger.bundle_id
    exam = read_exam(folder)
    bundles = [registry.bundle_folder(champion), registry.bundle_folder(challenger)]
    seen = learned_from(exam, bundles)
    if seen and not allow_seen:
        raise ValueError(f"{folder} holds campaigns that were learned from: {', '.join(seen)} (see --allow-seen)")
    found = gates(exam, *score_exam(exam, bundles))
    return Decision(champion, challenger, found, seen, str(folder))


def carry_out(decision: Decision) -> None:
    """Promote the challenger or not, and write the record to its version in the registry and to a file."""
    record = decision.record()
    if decision.fallen:
        registry.write_record(decision.challenger, record)
    else:
        registry.make_champion(decision.challenger, record)
    RECORDS.mkdir(parents=True, exist_ok=True)
    path = RECORDS / f"version-{decision.challenger.number}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def decision_text(decision: Decision) -> str:
    """The gates as a table, and the decision."""
    lines = [f"{'gate':<30}{'champion':>14}{'challenger':>14}   difference (95 %)"]
    for gate in decision.gates:
        interval = f"{gate.low:+.4g} to {gate.high:+.4g}"
        lines.append(
            f"{gate.name:<30}{gate.champion:>14.5g}{gate.challenger:>14.5g}   {interval:<24}"
            f"{'holds' if gate.holds else 'FALLS'}"
        )
    return "\n".join([*lines, str(decision.record()["decision"])]) + "\n"


def _unchallenged() -> registry.Version | None:
    """The champion, where there is no challenger."""
    return registry.holder(registry.CHAMPION) if registry.holder(registry.CHALLENGER) is None else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when promoted, rolled back or unchallenged, 1 when refused, 2 when nothing could be decided."""
    parser = argparse.ArgumentParser(prog="python -m train.promote", description=__doc__)
    parser.add_argument("--exam", type=Path, metavar="DIR", help="exchanges and labels (default: what was held out)")
    parser.add_argument("--allow-seen", action="store_true", help="even if one of the two learned from its campaigns")
    parser.add_argument("--dry-run", action="store_true", help="measure and say what would be done")
    parser.add_argument("--rollback", action="store_true", help="give the title back to the former champion")
    parser.add_argument("--register", type=Path, metavar="BUNDLE", help="first make this bundle the challenger")
    given = parser.parse_args(arguments)
    tracking.connect(TrackingSettings().experiment)
    try:
        if given.rollback:
            former = registry.roll_back()
            sys.stdout.write(f"version {former.number} (bundle {former.bundle_id}) is champion again\n")
            return 0
        if given.register is not None:
            registry.register(given.register)
        if (alone := _unchallenged()) is not None:
            sys.stdout.write(f"version {alone.number} (bundle {alone.bundle_id}) is champion; nothing challenges it\n")
            return 0
        decision = decide(given.exam, allow_seen=given.allow_seen)
    except ValueError as fault:
        sys.stderr.write(f"promote: {fault}\n")
        return 2
    if not given.dry_run:
        carry_out(decision)
    sys.stdout.write(decision_text(decision) + ("dry run: nothing was changed\n" if given.dry_run else ""))
    return 1 if decision.fallen else 0

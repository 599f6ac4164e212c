"""Sweep: `python -m train.sweep [overrides]` searches settings with Optuna, as `-m search=booster` does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from train.run import compose
from train.settings import SettingsError
from train.study import search, told


def main(overrides: Sequence[str] | None = None) -> int:
    """Search, or say in one line why not."""
    given = list(sys.argv[1:] if overrides is None else overrides)
    chosen = [] if any(entry.startswith("search=") for entry in given) else ["search=booster"]
    try:
        sys.stdout.write(told(search(compose(["experiment=sweep", *chosen, *given]))))
    except (SettingsError, ValueError) as fault:
        sys.stderr.write(f"sweep: {fault}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

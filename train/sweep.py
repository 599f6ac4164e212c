"""Sweep: `python -m train.sweep [overrides]` searches settings with Optuna, as `-m search=booster` does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from train.run import answered
from train.study import search, told


def main(overrides: Sequence[str] | None = None) -> int:
    """Search, or say in one line why not."""
    given = list(sys.argv[1:] if overrides is None else overrides)
    chosen = [] if any(entry.startswith("search=") for entry in given) else ["search=booster"]
    return answered("sweep", ["experiment=sweep", *chosen, *given], lambda settings: told(search(settings)))


if __name__ == "__main__":
    sys.exit(main())

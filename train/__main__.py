"""`python -m train [overrides]`: compose, fit, evaluate, write a bundle, track."""

from __future__ import annotations

import os
import sys

# Progress bars are for a person who waits; to be set before the libraries are imported.
os.environ.setdefault("TQDM_DISABLE", "" if sys.stderr.isatty() else "1")

from train.experiments.run import main

sys.exit(main())

"""`python -m train.traffic`: write composed traffic with labels to files."""

import sys

from train.experiments.traffic import main

if __name__ == "__main__":
    sys.exit(main())

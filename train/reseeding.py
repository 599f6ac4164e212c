"""`python -m train.reseeding`: whether a requested false-positive rate holds over seeds."""

import sys

from train.experiments.reseeding import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m train.reproduce`: prove that a run gives the same bundle again."""

import sys

from train.experiments.reproduce import main

if __name__ == "__main__":
    sys.exit(main())

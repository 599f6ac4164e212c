"""`python -m train.measure`: verdicts against labels."""

import sys

from train.evaluation.measure import main

if __name__ == "__main__":
    sys.exit(main())

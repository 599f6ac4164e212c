"""`python -m train.adaptation`: what `stillwatch adapt` is worth to a new provider."""

import sys

from train.experiments.adaptation import main

if __name__ == "__main__":
    sys.exit(main())

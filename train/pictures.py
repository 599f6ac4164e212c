"""`python -m train.pictures`: draw the pictures of the README."""

import sys

from train.experiments.pictures import main

if __name__ == "__main__":
    sys.exit(main())

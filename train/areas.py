"""`python -m train.areas`: check the capability areas."""

import sys

from train.taxonomy.check import main

if __name__ == "__main__":
    sys.exit(main())

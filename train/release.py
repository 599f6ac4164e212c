"""`python -m train.release`: make the champion's bundle the one that ships."""

import sys

from train.tracking.release import main

if __name__ == "__main__":
    sys.exit(main())

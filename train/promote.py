"""`python -m train.promote`: challenger against champion, or roll back."""

import sys

from train.tracking.promote import main

if __name__ == "__main__":
    sys.exit(main())

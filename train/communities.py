"""`python -m train.communities`: learn what tells a campaign from other accounts that ask alike."""

import sys

from train.experiments.communities import main

if __name__ == "__main__":
    sys.exit(main())

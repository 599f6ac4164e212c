"""`python -m train.demo`: score sample traffic with the bundle just trained and with the released one."""

import sys

from train.experiments.demo import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m train.ablation`: what each family of features is worth."""

import sys

from train.experiments.ablation import main

if __name__ == "__main__":
    sys.exit(main())

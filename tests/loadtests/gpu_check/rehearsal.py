"""The GPU check from end to end on a stand-in for the device: ``python -m`` with its arguments."""

import sys

from tests.loadtests.gpu_check.device import install
from vimserve.loadtests.gpu_check.__main__ import main

if __name__ == "__main__":
    install()
    sys.exit(main())

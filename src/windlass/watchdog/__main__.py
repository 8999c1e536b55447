"""`python -I -S .../windlass/watchdog FOLDER NODE SECONDS`: become the watchdog of a worker's data folder.

Isolated and without site-packages, so that it loads nothing it does not need: this package is found beside this file.
"""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from windlass.watchdog.serve import main

main(sys.argv[1], sys.argv[2], float(sys.argv[3]))

"""python -m divmon"""

from __future__ import annotations

import sys

from divmon.cli import main

sys.exit(main())

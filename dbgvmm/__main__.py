"""`python -m dbgvmm`."""

from __future__ import annotations

import sys

from dbgvmm.cli import main

sys.exit(main())

"""A service has no pandas in its process: chdb requires it and pyarrow would import it, and nobody uses it."""

from __future__ import annotations

import subprocess
import sys

CONVERT = "import sys, pyarrow; pyarrow.array([1, 2.5]); print('pandas' in sys.modules)"
LEAVE_OUT = "from services.shared.without_pandas import leave_out_pandas; leave_out_pandas()"


def said(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stdout.strip()


def test_the_first_conversion_of_pyarrow_imports_no_pandas() -> None:
    assert said(CONVERT) == "True"
    assert said(f"{LEAVE_OUT}; {CONVERT}") == "False"


def test_who_asks_for_pandas_is_told_that_it_is_not_there() -> None:
    asks = "\ntry:\n    import pandas\nexcept ModuleNotFoundError as error:\n    print(error.name)"
    assert said(LEAVE_OUT + asks) == "pandas"

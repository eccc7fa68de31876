"""The scoring script of an online deployment. It lies at the top of what is deployed, beside the package ``shared``.

Azure ML's inference server looks for packages one folder above the code, so the script says where they are.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from shared.jobs.serve import init, run

__all__ = ["init", "run"]

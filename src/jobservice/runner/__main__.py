"""`python -m jobservice.runner`, and the same as a plain file.

The worker starts this file by its path under `python -I -S`, which is fastest and loads no
site-packages; then only the directory above the package is added, behind the standard library.
"""

import sys

if not __package__:
    sys.path.append(__file__.rsplit("/", 3)[0])

from jobservice.runner.main import main  # the path must be known first

if __name__ == "__main__":
    sys.exit(main())

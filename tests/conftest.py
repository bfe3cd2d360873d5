"""What all tests share."""

import os

from hypothesis import settings

# A busy machine may take as long as it likes for one example; what may not hang has a time limit of its own.
# The same commit is tested with the same examples; `HYPOTHESIS_PROFILE=random scripts/test` looks for new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

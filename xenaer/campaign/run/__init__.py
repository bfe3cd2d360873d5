"""How many cases are played and kept: workers, dispatch, results, the directory of a run."""

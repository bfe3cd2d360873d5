"""What a case came to: facts from its journal, the table of outcomes, invariants, coverage, statistics."""

"""Mutants: every known defect and a table of seeded mistakes, each hunted by the shipped campaigns."""

"""Fault campaigns: what may break is written in a file, played many times, judged, counted."""

"""What a run of a campaign looks like: one HTML file for people, and traces of single cases."""

"""`report.html`: what was run and what was found, on one page that needs no network."""

"""Search spaces, studies and the statistics that keep a search honest."""

"""Published laws of liquidation, impact and loss sharing: scalars in, scalars out.

The event loop calls them, and `remargin vectors` holds them against the numbers that venues and
papers print. Nothing here knows of accounts, allocates, or is configured.
"""

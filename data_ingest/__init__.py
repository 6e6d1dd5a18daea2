"""From exchanges and recorded files to one market tape.

`DataStore` keeps what was observed, `import_recorded` and `pull_market` fill it, and
`build_tape` joins it onto one clock.
"""

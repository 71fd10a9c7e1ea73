"""What runs inside: started by file path with `python -P -s -S`, standard library only, nothing of wherry.

The host imports what both sides must agree on: options, and how values, arrays and output are written (`config`,
`bare`, `encoding`, `decoding`, `arrays`, `output`). Everything else here runs in the jail or builds it. Modules import
one another relatively, so that they work both as `inside.*` (in the jail) and as `wherry.sandbox.inside.*` (for type
checkers).
"""

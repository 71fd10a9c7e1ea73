"""What runs inside: started by file path with `python -I -S`, standard library only, nothing of wherry.

The host imports `config` alone; everything else here runs in the jail or builds it. Modules import one another
relatively, so that they work both as `inside.*` (in the jail) and as `wherry.sandbox.inside.*` (for type checkers).
"""

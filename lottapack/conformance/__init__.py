"""Run the format's vectors against any reader that speaks the protocol of spec/v1/conformance.md.

``python -m lottapack.conformance -- ./my-reader`` does it from a shell.
"""

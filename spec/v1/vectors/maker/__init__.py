"""A second implementation of the format, written from its pages alone, that makes the test vectors.

It shares no code with any other implementation and favours plainness over speed: the standard library and NumPy.
"""

"""The CPU kernels: numba compiles each once, and later their machine code is loaded from a file.

Callers use ``kernel.py``: it declares a kernel by module, name and types, and calls it on NumPy arrays. It gets the
code from ``shipped.py`` or ``object_files.py``, or from ``compiler.py`` if it is not compiled yet, and loads it by
``machine.py``. Only compiling imports numba (decisions 0030 and 0063). The kernels' sources, in numba's subset of
Python, are ``words.py``, ``look_ups.py``, ``tables.py``, ``normal16.py``, ``normal16_short.py`` and ``runs.py``;
``vectors.py`` writes LLVM code for them.
"""

"""The CPU's kernels: numba compiles them once, and from then on their machine code is loaded from a file.

``kernel.py`` is what callers use: it declares a kernel by module, name and types, and calls it on NumPy arrays. It
asks ``object_files.py`` for the code, or ``compiler.py`` where there is none yet, and ``machine.py`` to load it: only
compiling imports numba (decision 0030). Their sources, in numba's part of Python: ``tables.py``, ``normal16.py``,
``normal16_short.py`` and ``runs.py``, with ``vectors.py`` for what is written in LLVM's terms.
"""

"""The version of lottapack."""

__version__ = "0.1.0"

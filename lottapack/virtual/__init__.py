"""Products with a backbone that is generated, used and forgotten: it never lies in memory."""

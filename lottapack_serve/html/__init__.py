"""The registry's pages for browsers: what a stranger wrote, as HTML in which none of it can run."""

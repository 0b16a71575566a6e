"""The registry's endpoints, by job: one small module each, with the part of the Hub's protocol that it speaks."""

"""The registry's endpoints: one small module for each part of the Hub's protocol."""

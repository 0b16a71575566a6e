"""Read and write files safely: outputs, links, the cache folder and staging."""

"""Reading and writing files safely: outputs, links, the cache folder, staging."""

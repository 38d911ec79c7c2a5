"""A segxai plugin: bright blobs in made-up volumes."""

"""Content that outlives a job: a worker's input blobs, the cache's back ends and what decorates them."""

"""What several rooms of tests share: real source trees, and a cluster of real processes."""

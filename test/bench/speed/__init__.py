"""What the services cost and how fast they are, as ratios of interleaved rounds. See __main__.py."""

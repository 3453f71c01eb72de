"""Operations across tiers and remotes.  Floor: repo."""

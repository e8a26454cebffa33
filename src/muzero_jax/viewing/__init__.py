"""Episodes, decisions and search trees to look at."""

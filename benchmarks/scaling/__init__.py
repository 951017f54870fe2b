"""How cost grows: what is measured at several sizes, the slopes that follow, and sums on paper."""

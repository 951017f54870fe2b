"""What columns mean: chosen by a person, told by their names and cells, or unfolded first."""

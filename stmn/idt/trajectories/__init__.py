"""Improved dense trajectories of a video: points tracked on a dense grid, with HOG, HOF and MBH along each track."""

"""The figures of pages: Matplotlib draws them, the page's style sheet colours them."""

#: the number of series colours; the style sheet has a --series-N for each
SERIES_COLOURS = 8

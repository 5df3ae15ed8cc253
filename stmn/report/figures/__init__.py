"""The figures of pages: Matplotlib draws them, the page's style sheet colours them."""

#: colours of series; the style sheet has as many --series-N
SERIES_COLOURS = 8

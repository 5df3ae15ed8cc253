"""Size limits for untrusted pictures: a small file may announce any size."""

#: largest number of pixels of a picture that is decoded
MAX_PIXELS = 2**26
#: the same in words
LARGEST = "8192x8192"

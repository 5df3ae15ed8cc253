"""How large pictures of strangers may be. Files are small and their headers announce anything."""

#: pixels of the largest picture that is decoded
MAX_PIXELS = 2**26
#: the same in words
LARGEST = "8192x8192"
